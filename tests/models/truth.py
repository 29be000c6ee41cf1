"""The independent truth: transformers' own model, built without memory on the meta device."""

from __future__ import annotations

import importlib
import json
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
import transformers
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

transformers.logging.set_verbosity_error()

Config = dict[str, Any]

HEADLESS = {
    # No causal model on the text configuration alone: the body is built, and the head, which is
    # a plain matrix or tied, is added.
    "step3p5": ("step3p7", "Step3p7TextModel"),
    "qwen3_vl_text": ("qwen3_vl", "Qwen3VLTextModel"),
    "qwen3_vl_moe_text": ("qwen3_vl_moe", "Qwen3VLMoeTextModel"),
}

OWN_CLASS = {
    # A causal model on the text configuration exists, but AutoModelForCausalLM does not map it.
    "mllama_text_model": ("mllama", "MllamaForCausalLM"),
    "mistral4": ("mistral4", "Mistral4ForCausalLM"),
}


def _renamed(kind: str, **changes: Any) -> Callable[[Config], Config]:
    return lambda config: {**config, **changes, "model_type": kind}


def _qwen1(config: Config) -> Config:
    """Qwen-1 is Qwen-2 without grouping; its file states gate and up as one width."""
    return {
        **config,
        "model_type": "qwen2",
        "intermediate_size": config["intermediate_size"] // 2,
        "num_key_value_heads": config["num_attention_heads"],
    }


def _internlm(config: Config) -> Config:
    return {**config, "model_type": "llama", "attention_bias": config["bias"]}


def _deepseek_moe(config: Config) -> Config:
    """DeepSeek-MoE is GLM-4.5's layout without biases and norms on queries and keys."""
    return {**config, "model_type": "glm4_moe", "head_dim": 128}


EQUIVALENT: dict[str, Callable[[Config], Config]] = {
    # Released with code of their own that transformers lacks, but of the very same shape as an
    # architecture that it has.
    "aquila": _renamed("llama"),
    "baichuan": _renamed("llama"),
    "internlm": _internlm,
    "internlm2": _renamed("llama"),
    "mimo": _renamed("qwen2"),
    "qwen": _qwen1,
    "deepseek": _deepseek_moe,
    "kimi_k2": _renamed("deepseek_v3"),
    # Text configurations that were flattened into the multimodal one.
    "step3p7": _renamed("step3p5"),
    "minimax_m3": _renamed("minimax_m3_vl_text"),
}

IMPOSSIBLE = {
    "arctic": "its class was removed from transformers",
    "deci": "a number of key-value heads per layer exists in code released with the model only",
    "grok-1": "released with code of its own",
    "nemotron-nas": "searched blocks exist in code released with the model only",
    "kimi_k3": "transformers 5.19 knows Kimi Linear, but not K3's narrower experts, gates and "
    "attention over depth",
}
"""`model_type` → why there is no truth on the meta device."""


def shape(config: Config) -> Config:
    """The text part of a configuration, without what has no influence on the shape."""
    inner = config.get("text_config", config)
    merged = {"tie_word_embeddings": config.get("tie_word_embeddings"), **inner}
    dropped = ("quantization_config", "torch_dtype", "dtype", "expert_dtype")
    kept = {key: value for key, value in merged.items() if key not in dropped}
    if kept["tie_word_embeddings"] is None:
        del kept["tie_word_embeddings"]
    if config["model_type"] in IMPOSSIBLE:
        kept["model_type"] = config["model_type"]
    return EQUIVALENT.get(kept["model_type"], dict)(kept)


@cache
def _parameters(text: str) -> int:
    raw = json.loads(text)
    kind = raw.pop("model_type")
    config = CONFIG_MAPPING[kind](**raw)
    with warnings.catch_warnings(), torch.device("meta"):
        # GPT-BigCode's module scripts a function when it is imported.
        warnings.filterwarnings("ignore", "`torch.jit.script`", DeprecationWarning)
        model = _build(kind, config)
    total = sum(parameter.numel() for parameter in model.parameters())
    needs_head = kind in HEADLESS and not config.tie_word_embeddings
    return total + (config.vocab_size * config.hidden_size if needs_head else 0)


def _build(kind: str, config: Any) -> Any:
    where = HEADLESS.get(kind) or OWN_CLASS.get(kind)
    if where is None:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    module = importlib.import_module(f"transformers.models.{where[0]}.modeling_{where[0]}")
    return getattr(module, where[1])(config)


def parameters(config: Config) -> int:
    """Unique parameters of the model that transformers builds; tied ones count once."""
    return _parameters(json.dumps(shape(config), sort_keys=True))
