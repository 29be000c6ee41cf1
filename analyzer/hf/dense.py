"""Dense decoders that differ in biases, norms and windows only: Llama and its many relatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from analyzer.hf import windows
from analyzer.hf.common import (
    LAYER_NORM,
    RMS,
    attention,
    biased,
    decoder,
    gated_width,
    hidden_size,
    with_prediction,
)
from analyzer.hf.fields import Fields
from analyzer.model import FFN, Attention, DenseFFN, Layer, Mixer, Model

Flag = bool | str
"""A constant, or the key that holds it (False where the key is absent)."""


@dataclass(frozen=True)
class Style:
    """How one family differs from the plain pre-norm decoder without biases."""

    qkv_bias: Flag = False
    o_bias: Flag = False
    mlp_bias: Flag = False
    gated: bool = True
    norm: int = RMS
    norms: int = 2
    qk_norm: Literal["none", "head", "full"] = "none"
    qk_norm_key: str | None = None
    """Key that switches `qk_norm` on; None: it is always on."""
    tied: bool = False
    head_bias: Flag = False
    parallel: Flag = False
    parallel_norms: int | None = None
    """Norms of a layer where it is parallel; None: as many as otherwise."""
    windows: windows.WindowRule = windows.nowhere
    sinks: bool = False
    output_gate: Literal["none", "head", "full"] = "none"
    layer_extra: int = 0
    """Further parameters in each layer (Apertus' activation)."""


STYLES: dict[str, Style] = {
    "llama": Style(qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias"),
    "mistral": Style(windows=windows.everywhere),
    "ministral": Style(windows=windows.typed_or_windowed),
    "ministral3": Style(windows=windows.everywhere),
    "qwen": Style(qkv_bias=True),
    "qwen2": Style(qkv_bias=True, windows=windows.qwen),
    "qwen3": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        qk_norm="head",
        windows=windows.qwen,
    ),
    "mimo": Style(qkv_bias="attention_bias"),
    "phi3": Style(windows=windows.everywhere),
    "olmo": Style(qkv_bias="attention_bias", o_bias="attention_bias", norm=0),
    "olmo2": Style(qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="full"),
    "olmo3": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        qk_norm="full",
        windows=windows.every_nth_full(4),
    ),
    "smollm3": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        mlp_bias="mlp_bias",
        tied=True,
        windows=windows.typed_or_full,
    ),
    "exaone4": Style(qk_norm="head", windows=windows.every_nth_full(4)),
    "granite": Style(qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias"),
    "seed_oss": Style(qkv_bias="attention_bias", o_bias="attention_out_bias", mlp_bias="mlp_bias"),
    "apertus": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        mlp_bias="mlp_bias",
        qk_norm="head",
        gated=False,
        layer_extra=2,
    ),
    "arcee": Style(
        qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias", gated=False
    ),
    "starcoder2": Style(
        qkv_bias="use_bias",
        o_bias="use_bias",
        mlp_bias="use_bias",
        gated=False,
        norm=LAYER_NORM,
        tied=True,
        windows=windows.everywhere,
    ),
    "cohere": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        norms=1,
        qk_norm="full",
        qk_norm_key="use_qk_norm",
        tied=True,
        parallel=True,
    ),
    "cohere2": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        norms=1,
        tied=True,
        parallel=True,
        windows=windows.every_nth_full(4, "sliding_window_pattern"),
    ),
    "stablelm": Style(
        qkv_bias="use_qkv_bias",
        norm=LAYER_NORM,
        qk_norm="full",
        qk_norm_key="qk_layernorm",
        parallel="use_parallel_residual",
        parallel_norms=1,
    ),
    "glm": Style(qkv_bias="attention_bias"),
    "glm4": Style(qkv_bias="attention_bias", norms=4),
    "nemotron": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        mlp_bias="mlp_bias",
        gated=False,
        norm=LAYER_NORM,
    ),
    "ernie4_5": Style(qkv_bias="use_bias", o_bias="use_bias", mlp_bias="use_bias", tied=True),
    "hunyuan_v1_dense": Style(qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="head"),
    "helium": Style(qkv_bias="attention_bias", mlp_bias="mlp_bias"),
    "internlm": Style(qkv_bias="bias", o_bias="bias"),
    "internlm2": Style(qkv_bias="bias", o_bias="bias"),
    "baichuan": Style(),
    "aquila": Style(),
    "gemma": Style(qkv_bias="attention_bias", o_bias="attention_bias", tied=True),
    "gemma2": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        norms=4,
        tied=True,
        windows=windows.every_nth_full(2),
    ),
    "gemma3_text": Style(
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        norms=4,
        qk_norm="head",
        tied=True,
        windows=windows.every_nth_full(6, "sliding_window_pattern"),
    ),
}


def read(cfg: Fields) -> Model:
    """A dense decoder of one of the families in `STYLES`."""
    style = STYLES[cfg.text("model_type")]
    ffn = DenseFFN(width=_width(cfg), gated=style.gated, bias=flag(cfg, style.mlp_bias))
    layers = [
        layer_of(cfg, style, mixer, ffn) for mixer in windowed(attention_of(cfg, style), style, cfg)
    ]
    return with_prediction(cfg, framed(cfg, style, layers))


def framed(cfg: Fields, style: Style, layers: Sequence[Layer]) -> Model:
    """The decoder around `layers` in the family's style."""
    head_bias = flag(cfg, style.head_bias)
    return decoder(cfg, layers, tied=style.tied, norm=style.norm, lm_head_bias=head_bias)


def layer_of(cfg: Fields, style: Style, mixer: Mixer, ffn: FFN, extra: int = 0) -> Layer:
    """One layer in the family's style, with `extra` parameters of its own."""
    parallel = flag(cfg, style.parallel)
    norms = style.norms if not parallel else style.parallel_norms or style.norms
    return Layer(
        mixer=mixer,
        ffn=ffn,
        norms=norms,
        norm_params=norms * style.norm * hidden_size(cfg),
        parallel=parallel,
        extra_params=style.layer_extra + extra,
    )


def flag(cfg: Fields, rule: Flag) -> bool:
    """The constant, or what the configuration says under that key."""
    return rule if isinstance(rule, bool) else cfg.flag(rule, default=False)


def _width(cfg: Fields) -> int:
    """The FFN's width; Qwen-1 states gate and up together."""
    width = gated_width(cfg)
    if cfg.text("model_type") == "qwen":
        return cfg.divide("intermediate_size", width, "2 (gate and up)", 2)
    return width


def attention_of(cfg: Fields, style: Style, **overrides: Any) -> Attention:
    """The attention of a layer without a window, in the family's style."""
    bias = flag(cfg, style.qkv_bias)
    has_norm = style.qk_norm_key is None or cfg.flag(style.qk_norm_key, default=False)
    fields: dict[str, Any] = {
        **biased(bias),
        "o_bias": flag(cfg, style.o_bias),
        "qk_norm": style.qk_norm if has_norm else "none",
        "sinks": style.sinks,
        "output_gate": style.output_gate,
    }
    return attention(cfg, **{**fields, **overrides})


def windowed(shared: Attention, style: Style, cfg: Fields) -> list[Attention]:
    """`shared` for every layer, windowed where the family's rule says so."""
    return [
        shared if span is None else msgspec.structs.replace(shared, window=span)
        for span in style.windows(cfg)
    ]
