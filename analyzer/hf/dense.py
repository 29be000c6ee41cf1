"""Dense decoders that differ in biases, norms and windows only: Llama and its many relatives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from analyzer.hf import windows
from analyzer.hf.common import LAYER_NORM, RMS, attention, decoder, gated_width, hidden_size
from analyzer.hf.fields import Fields
from analyzer.model import Attention, DenseFFN, Layer, Model

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
    head_bias: bool = False
    parallel: bool = False
    windows: windows.WindowRule = windows.nowhere
    layer_extra: int = 0
    """Further parameters in each layer (Apertus' activation)."""


LLAMA_BIAS = {"qkv_bias": "attention_bias", "o_bias": "attention_bias"}

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
    "stablelm": Style(qkv_bias="use_qkv_bias", norm=LAYER_NORM),
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
    shared = _attention(cfg, style)
    hidden = hidden_size(cfg)
    ffn = DenseFFN(width=_width(cfg), gated=style.gated, bias=_flag(cfg, style.mlp_bias))
    layers = [
        Layer(
            mixer=_windowed(shared, window),
            ffn=ffn,
            norms=style.norms,
            norm_params=style.norms * style.norm * hidden,
            parallel=style.parallel,
            extra_params=style.layer_extra,
        )
        for window in style.windows(cfg)
    ]
    return decoder(cfg, layers, tied=style.tied, norm=style.norm, lm_head_bias=style.head_bias)


def _flag(cfg: Fields, flag: Flag) -> bool:
    return flag if isinstance(flag, bool) else cfg.flag(flag, default=False)


def _width(cfg: Fields) -> int:
    """The FFN's width; Qwen-1 states gate and up together."""
    width = gated_width(cfg)
    if cfg.text("model_type") == "qwen":
        return cfg.divide("intermediate_size", width, "2 (gate and up)", 2)
    return width


def _attention(cfg: Fields, style: Style) -> Attention:
    bias = _flag(cfg, style.qkv_bias)
    has_norm = style.qk_norm_key is None or cfg.flag(style.qk_norm_key, default=False)
    return attention(
        cfg,
        q_bias=bias,
        k_bias=bias,
        v_bias=bias,
        o_bias=_flag(cfg, style.o_bias),
        qk_norm=style.qk_norm if has_norm else "none",
    )


def _windowed(shared: Attention, window: int | None) -> Attention:
    if window is None:
        return shared
    return msgspec.structs.replace(shared, window=window)
