"""A model folder made on the spot, so that a real server can be profiled without any download.

It holds an architecture and a tokenizer and no weights: servers make those up themselves
(`--load-format dummy`). Each token is a word of its own (`w17`), so prompts have exact lengths as
ids and as text, and every generated token has visible text.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

SPECIAL = ("<unk>", "<s>", "</s>", "<pad>")


class Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A Llama-like decoder."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int = 16_384
    positions: int = 8192


SHAPES: dict[str, Shape] = {
    "tiny": Shape(hidden=256, layers=4, heads=4, kv_heads=2, intermediate=768),
    "small": Shape(hidden=512, layers=8, heads=8, kv_heads=4, intermediate=1536),
    "0.1b": Shape(hidden=768, layers=12, heads=12, kv_heads=4, intermediate=2048),
    "0.5b": Shape(hidden=1024, layers=24, heads=16, kv_heads=4, intermediate=4096),
    "8b": Shape(
        hidden=4096,
        layers=32,
        heads=32,
        kv_heads=8,
        intermediate=14_336,
        vocabulary=128_256,
    ),
}


def write_model(folder: str | Path, shape: Shape) -> Path:
    """Write config.json and the tokenizer; the folder is made if it is not there."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    for name, content in (
        ("config.json", _config(shape)),
        ("generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3}),
        ("tokenizer.json", _tokenizer(shape.vocabulary)),
        ("tokenizer_config.json", _tokenizer_config(shape)),
    ):
        (path / name).write_text(json.dumps(content), encoding="utf-8")
    return path


def _config(shape: Shape) -> dict[str, Any]:
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": shape.hidden,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.hidden // shape.heads,
        "intermediate_size": shape.intermediate,
        "vocab_size": shape.vocabulary,
        "max_position_embeddings": shape.positions,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10_000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 3,
    }


def _tokenizer(vocabulary: int) -> dict[str, Any]:
    words = [*SPECIAL, *(f"w{number}" for number in range(len(SPECIAL), vocabulary))]
    added = [
        {
            "id": place,
            "content": word,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for place, word in enumerate(SPECIAL)
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": None,
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {word: place for place, word in enumerate(words)},
            "unk_token": "<unk>",
        },
    }


def _tokenizer_config(shape: Shape) -> dict[str, Any]:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "unk_token": "<unk>",
        "bos_token": "<s>",
        "eos_token": "</s>",
        "pad_token": "<pad>",
        "model_max_length": shape.positions,
        "clean_up_tokenization_spaces": False,
        "chat_template": "{% for m in messages %}{{ m['content'] }} {% endfor %}",
    }
