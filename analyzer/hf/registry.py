"""Which family reads which `model_type`. Families are imported when first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

from analyzer.errors import ConfigError, nearest
from analyzer.hf.fields import Fields
from analyzer.model import Model

Reader = Callable[[Fields], Model]

_DENSE = """
aquila apertus arcee baichuan cohere cohere2 ernie4_5 exaone4 gemma gemma2 gemma3_text glm glm4
granite helium hunyuan_v1_dense internlm internlm2 llama mimo ministral ministral3 mistral nemotron
olmo olmo2 olmo3 phi3 qwen qwen2 qwen3 seed_oss smollm3 stablelm starcoder2
"""

_MOE = """
afmoe deepseek dots1 ernie4_5_moe exaone_moe flex_olmo glm4_moe gpt_oss granitemoe granitemoeshared
hunyuan_v1_moe hy_v3 minimax_m2 mixtral olmoe phimoe qwen2_moe qwen3_moe solar_open
"""

_LATENT = "deepseek_v2 deepseek_v3 glm4_moe_lite kimi_k2 mistral4"

_GATED_DELTA = "qwen3_next qwen3_5_text qwen3_5_moe_text"

READERS: dict[str, str] = {
    **dict.fromkeys(_DENSE.split(), "dense:read"),
    **dict.fromkeys(_MOE.split(), "moe:read"),
    **dict.fromkeys(_LATENT.split(), "mla:read"),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa"), "mla:read_sparse"),
    "deepseek_v4": "deepseek_v4:read",
    **dict.fromkeys(_GATED_DELTA.split(), "linear:read_qwen"),
    "minimax": "linear:read_minimax",
    "kimi_linear": "linear:read_kimi",
    "minimax_m3_vl_text": "minimax_m3:read",
    "mamba": "ssm:read_mamba1",
    "falcon_mamba": "ssm:read_mamba1",
    "mamba2": "ssm:read_mamba2",
    "jamba": "hybrid:read_jamba",
    "bamba": "hybrid:read_bamba",
    "granitemoehybrid": "hybrid:read_granite",
    "falcon_h1": "hybrid:read_falcon_h1",
    "lfm2": "hybrid:read_lfm2",
    "lfm2_moe": "hybrid:read_lfm2",
    "nemotron_h": "nemotron_h:read",
    "zamba2": "zamba2:read",
    "gpt2": "gpt:read_gpt2",
    "gpt_bigcode": "gpt:read_bigcode",
    "opt": "gpt:read_opt",
    "bloom": "gpt:read_bloom",
    "gpt_neox": "gpt:read_neox",
    "gptj": "gpt:read_gptj",
    "gpt_neo": "gpt:read_gpt_neo",
    "falcon": "gpt:read_falcon",
    "mpt": "gpt:read_mpt",
    "phi": "gpt:read_phi",
    "gemma3n_text": "gemma:read_3n",
    "gemma4_text": "gemma:read_4",
    "step3p5": "mixed_heads:read_step",
    "mimo_v2_flash": "mixed_heads:read_mimo",
    "llama4_text": "special:read_llama4",
    "mllama_text_model": "special:read_mllama",
    "dbrx": "special:read_dbrx",
    "arctic": "special:read_arctic",
    "grok-1": "special:read_grok",
    "deci": "special:read_deci",
    "nemotron-nas": "special:read_deci",
    "chatglm": "special:read_chatglm",
}
"""`model_type` → `module:function` in this package."""

TEXT_TYPES: dict[str, str] = {
    "gemma3": "gemma3_text",
    "gemma3n": "gemma3n_text",
    "gemma4": "gemma4_text",
    "llama4": "llama4_text",
    "mllama": "mllama_text_model",
    "qwen2_vl": "qwen2",
    "qwen2_5_vl": "qwen2",
    "qwen3_vl": "qwen3",
    "qwen3_vl_moe": "qwen3_moe",
    "mistral3": "mistral",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
    "minimax_m3_vl": "minimax_m3_vl_text",
}
"""Multimodal `model_type` → that of its text part, for a `text_config` that does not say."""

ALIASES: dict[str, str] = {
    "Yi": "llama",
    "yi": "llama",
    "code_llama": "llama",
    "RefinedWeb": "falcon",
    "RefinedWebModel": "falcon",
    "DeciLM": "deci",
    "kimi_k3": "kimi_linear",
    "grok": "grok-1",
    "step3p7": "step3p5",
    "MiniMaxText01": "minimax",
    "minimax_text_01": "minimax",
    "minimax_m1": "minimax",
    "minimax_m3": "minimax_m3_vl_text",
    "deepseek_v3_2": "deepseek_v32",
    "deepseek_ref": "deepseek_v4",
    "qwen3_vl_text": "qwen3",
    "qwen3_vl_moe_text": "qwen3_moe",
    "qwen2_vl_text": "qwen2",
    "qwen2_5_vl_text": "qwen2",
    "qwen3_5": "qwen3_5_text",
    "qwen3_5_moe": "qwen3_5_moe_text",
}
"""Spellings of a `model_type` whose configurations mean the same as another's."""


def from_config(config: Mapping[str, Any], name: str = "") -> Model:
    """The model that a parsed `config.json` describes; `name` is what it will be called."""
    outer = Fields(config, name or str(config.get("_name_or_path") or "config.json"))
    cfg = _text_part(outer)
    kind = cfg.text("model_type")
    kind = ALIASES.get(kind, kind)
    if kind not in READERS:
        raise ConfigError(f"{cfg.where}: unknown architecture {kind!r}{nearest(kind, READERS)}")
    cfg.raw = {**cfg.raw, "model_type": kind}
    return reader(kind)(cfg)


def reader(kind: str) -> Reader:
    """The function that reads configurations of this `model_type`."""
    module, _, function = READERS[kind].partition(":")
    found: Reader = getattr(importlib.import_module(f"analyzer.hf.{module}"), function)
    return found


def _text_part(outer: Fields) -> Fields:
    """The text part of a multimodal configuration, else the whole.

    Keys that the text part leaves to the outer configuration are taken over from there.
    """
    for key in ("text_config", "llm_config", "language_config", "thinker_config"):
        if outer.has(key):
            return _text_part(_merged(outer, outer.child(key)))
    return outer


_INHERITED = ("tie_word_embeddings", "quantization_config", "dtype", "torch_dtype", "vocab_size")


def _merged(outer: Fields, inner: Fields) -> Fields:
    raw = {key: outer.raw[key] for key in _INHERITED if outer.raw.get(key) is not None}
    raw.update({key: value for key, value in inner.raw.items() if value is not None})
    if "model_type" not in raw:
        kind = outer.text("model_type")
        raw["model_type"] = TEXT_TYPES.get(kind, kind)
    return Fields(raw, outer.where)
