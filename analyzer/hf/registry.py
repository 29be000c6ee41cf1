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
afmoe dots1 ernie4_5_moe exaone_moe flex_olmo glm4_moe gpt_oss granitemoe granitemoeshared
hunyuan_v1_moe hy_v3 minimax_m2 mixtral olmoe phimoe qwen2_moe qwen3_moe solar_open
"""

READERS: dict[str, str] = {
    **dict.fromkeys(_DENSE.split(), "dense:read"),
    **dict.fromkeys(_MOE.split(), "moe:read"),
}
"""`model_type` → `module:function` in this package."""

TEXT_TYPES: dict[str, str] = {
    "gemma3": "gemma3_text",
    "mistral3": "mistral",
}
"""Multimodal `model_type` → that of its text part, for a `text_config` that does not say."""

ALIASES: dict[str, str] = {
    "Yi": "llama",
    "yi": "llama",
    "code_llama": "llama",
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
    return _reader(READERS[kind])(cfg)


def _reader(spec: str) -> Reader:
    module, _, function = spec.partition(":")
    reader: Reader = getattr(importlib.import_module(f"analyzer.hf.{module}"), function)
    return reader


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
