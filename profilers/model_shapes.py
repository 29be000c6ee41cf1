"""Which models a campaign measures, and the sizes that its operators take from them.

Operators are measured at the sizes of released models, since kernels choose their tiling by size.
Layers, generations and memory are measured on models built from a configuration, with random
weights: a catalog name, the path of a config.json, or one of the small ones below, which let a
machine without a GPU be calibrated on models that it can run many times.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from analyzer import models_catalog
from analyzer.errors import ConfigError, PlumblineError, nearest


class Shape(NamedTuple):
    """Sizes of one transformer block and its head."""

    name: str
    hidden: int
    inter: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int


SHAPES: dict[str, tuple[Shape, ...]] = {
    "tiny": (Shape("tiny", 64, 160, 4, 2, 16, 512),),
    "small": (
        Shape("smollm2-135m", 576, 1536, 9, 3, 64, 49152),
        Shape("qwen2.5-0.5b", 896, 4864, 14, 2, 64, 151936),
        Shape("llama-3.2-1b", 2048, 8192, 32, 8, 64, 128256),
    ),
    "large": (
        Shape("llama-3.2-1b", 2048, 8192, 32, 8, 64, 128256),
        Shape("llama-3-8b", 4096, 14336, 32, 8, 128, 128256),
        Shape("llama-3-70b", 8192, 28672, 64, 8, 128, 128256),
    ),
}


class ExpertShape(NamedTuple):
    """Sizes of one layer of routed experts."""

    name: str
    hidden: int
    inter: int
    experts: int
    top_k: int


EXPERTS: dict[str, tuple[ExpertShape, ...]] = {
    "tiny": (ExpertShape("tiny", 64, 32, 8, 2),),
    "small": (ExpertShape("granite-3-1b-a400m", 1024, 512, 32, 8),),
    "large": (
        ExpertShape("qwen3-30b-a3b", 2048, 768, 128, 8),
        ExpertShape("mixtral-8x7b", 4096, 14336, 8, 2),
    ),
}


class ScanShape(NamedTuple):
    """Sizes of one Mamba-2 mixer: state-space heads, their width and the state."""

    name: str
    heads: int
    head_dim: int
    state: int


SCANS: dict[str, tuple[ScanShape, ...]] = {
    "tiny": (ScanShape("tiny", 4, 16, 16),),
    "small": (ScanShape("mamba2-130m", 24, 64, 128),),
    "large": (ScanShape("mamba2-2.7b", 80, 64, 128),),
}


def _llama(hidden: int, inter: int, layers: int, heads: int, kv_heads: int, vocab: int) -> Any:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": hidden,
        "intermediate_size": inter,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocab,
        "max_position_embeddings": 8192,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "tie_word_embeddings": True,
    }


SMALL_CONFIGS: dict[str, dict[str, Any]] = {
    "tiny-llama": _llama(64, 160, 2, 4, 2, 512),
    "tiny-wide": _llama(128, 256, 3, 4, 4, 512),
    "tiny-deep": _llama(96, 256, 4, 6, 3, 512),
    "tiny-narrow": _llama(64, 128, 3, 2, 2, 512),
    "stories15m": {**_llama(288, 768, 6, 6, 6, 32000), "max_position_embeddings": 256},
    "stories42m": {**_llama(512, 1376, 8, 8, 8, 32000), "max_position_embeddings": 1024},
    "thin-24m": _llama(320, 1088, 10, 10, 5, 32000),
    "smollm2-135m": _llama(576, 1536, 30, 9, 3, 49152),
    "smollm2-360m": _llama(960, 2560, 32, 15, 5, 49152),
    "llama-68m": {**_llama(768, 3072, 2, 12, 12, 32000), "tie_word_embeddings": False},
    "llama-160m": {**_llama(768, 3072, 12, 12, 12, 32000), "tie_word_embeddings": False},
    "pythia-160m": {
        "model_type": "gpt_neox",
        "architectures": ["GPTNeoXForCausalLM"],
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 50304,
        "max_position_embeddings": 2048,
        "rotary_pct": 0.25,
        "use_parallel_residual": True,
        "tie_word_embeddings": False,
    },
    "qwen3-tiny-moe": {
        "model_type": "qwen3_moe",
        "architectures": ["Qwen3MoeForCausalLM"],
        "hidden_size": 512,
        "intermediate_size": 1024,
        "moe_intermediate_size": 256,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 64,
        "num_experts": 16,
        "num_experts_per_tok": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
"""Published small models, and small ones of our own (`tiny-…`), as Hugging Face configurations."""

DEFAULT_MODELS: dict[str, tuple[str, ...]] = {
    "tiny": ("tiny-llama", "tiny-wide"),
    "small": ("smollm2-135m", "llama-160m", "stories15m", "smollm2-360m", "qwen2.5-0.5b",
              "opt-125m", "qwen3-tiny-moe", "thin-24m"),
    "large": ("llama-3.2-1b", "llama-3.2-3b", "llama-3-8b", "qwen3-30b-a3b", "qwen2.5-14b",
              "qwen3-32b", "llama-3-70b"),
}  # fmt: skip

CHECK_MODELS: dict[str, tuple[str, ...]] = {
    "tiny": ("tiny-deep", "tiny-narrow"),
    "small": ("stories42m", "llama-68m", "gpt2", "pythia-160m", "gemma-3-270m", "qwen3-0.6b"),
    "large": ("mistral-7b-v0.3", "phi-3-medium", "qwen3-8b"),
}
"""Models that no default campaign measures: a calibration is checked on them."""


def find_config(reference: str) -> tuple[str, dict[str, Any]]:
    """(name, configuration) of a small model, a catalog name, or the path of a config.json."""
    if reference.endswith(".json"):
        return _from_file(Path(reference))
    if reference in SMALL_CONFIGS:
        return reference, SMALL_CONFIGS[reference]
    try:
        found = models_catalog.resolve(reference)
    except PlumblineError:
        found = None
    if found is None:
        known = [*SMALL_CONFIGS, *models_catalog.names()]
        raise ConfigError(f"unknown model {reference!r}{nearest(reference, known)}")
    name, _weights = found
    return name, dict(models_catalog.entry(name).config)


def _from_file(path: Path) -> tuple[str, dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: not a model configuration")
    inner = document.get("config")
    config = inner if isinstance(inner, dict) and "model_type" in inner else document
    if "model_type" not in config:
        raise ConfigError(f"{path}: has no model_type; is it a Hugging Face config.json?")
    name = path.parent.name if path.stem == "config" else path.stem
    return name, config


def rough_parameters(config: dict[str, Any]) -> float:
    """Parameters of a model, exact for the common kind and some tens of percent off for others:
    enough to plan by."""
    hidden = float(config.get("hidden_size") or config.get("n_embd") or config.get("d_model") or 1)
    layers = float(config.get("num_hidden_layers") or config.get("n_layer") or 1)
    inter = float(config.get("intermediate_size") or 4 * hidden)
    heads = float(config.get("num_attention_heads") or config.get("n_head") or 1)
    kv_heads = float(config.get("num_key_value_heads") or heads)
    head_dim = float(config.get("head_dim") or hidden / heads)
    attention = 2 * hidden * head_dim * (heads + kv_heads)
    experts = config.get("num_local_experts") or config.get("num_experts")
    expert_inter = float(config.get("moe_intermediate_size") or inter)
    feed_forward = 3 * hidden * (float(experts) * expert_inter if experts else inter)
    vocab = float(config.get("vocab_size") or 32000)
    tables = 1 if config.get("tie_word_embeddings") else 2
    return layers * (attention + feed_forward) + tables * vocab * hidden


def rough_active_share(config: dict[str, Any]) -> float:
    """Share of the weights that one token reads: 1 for a dense model."""
    experts = config.get("num_local_experts") or config.get("num_experts")
    top_k = config.get("num_experts_per_tok")
    if not experts or not top_k:
        return 1.0
    return min(1.0, 0.2 + float(top_k) / float(experts))
