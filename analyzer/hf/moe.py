"""Mixture-of-experts decoders with ordinary attention: Mixtral and the families after it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from analyzer.hf import routing, windows
from analyzer.hf.common import LAYER_NORM, gated_width, with_prediction
from analyzer.hf.dense import Style, attention_of, flag, framed, layer_of, windowed
from analyzer.hf.fields import Fields
from analyzer.model import FFN, DenseFFN, Model, MoE

SharedRule = Callable[[Fields, int], int]


@dataclass(frozen=True)
class Routed:
    """How the experts of a family are laid out, on top of the style of its layers."""

    style: Style
    width: tuple[str, ...] = routing.WIDTH
    sparse: routing.SparseRule = routing.all_sparse
    shared: SharedRule = routing.shared_count_width
    shared_gate: bool = False
    router_bias: bool = False
    correction: bool = False
    correction_is_parameter: bool = False
    """True where transformers keeps the correction bias as a parameter and not as a buffer."""


def _width_of(key: str) -> SharedRule:
    return lambda cfg, width: cfg.count(key, default=0)


def _no_shared(cfg: Fields, width: int) -> int:
    return 0


def _one_shared(cfg: Fields, width: int) -> int:
    return width


INTERMEDIATE = ("intermediate_size",)

FAMILIES: dict[str, Routed] = {
    "mixtral": Routed(Style(windows=windows.everywhere), width=INTERMEDIATE, shared=_no_shared),
    "minimax_m2": Routed(
        Style(qk_norm="full"), width=INTERMEDIATE, shared=_no_shared, correction=True
    ),
    "qwen2_moe": Routed(
        Style(qkv_bias="qkv_bias", windows=windows.qwen),
        sparse=routing.by_step,
        shared=_width_of("shared_expert_intermediate_size"),
        shared_gate=True,
    ),
    "qwen3_moe": Routed(
        Style(
            qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="head", windows=windows.qwen
        ),
        sparse=routing.by_step,
        shared=_no_shared,
    ),
    "phimoe": Routed(
        Style(
            qkv_bias="attention_bias",
            o_bias="attention_bias",
            norm=LAYER_NORM,
            head_bias="lm_head_bias",
            windows=windows.everywhere,
        ),
        width=INTERMEDIATE,
        shared=_no_shared,
    ),
    "olmoe": Routed(
        Style(qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="full"),
        width=INTERMEDIATE,
        shared=_no_shared,
    ),
    "flex_olmo": Routed(
        Style(qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="full"),
        width=INTERMEDIATE,
        shared=_no_shared,
    ),
    "granitemoe": Routed(
        Style(qkv_bias="attention_bias", o_bias="attention_bias"),
        width=INTERMEDIATE,
        shared=_no_shared,
    ),
    "granitemoeshared": Routed(
        Style(qkv_bias="attention_bias", o_bias="attention_bias"),
        width=INTERMEDIATE,
        shared=_width_of("shared_intermediate_size"),
    ),
    "ernie4_5_moe": Routed(
        Style(
            qkv_bias="use_bias",
            o_bias="use_bias",
            mlp_bias="use_bias",
            head_bias="use_bias",
            tied=True,
        ),
        sparse=routing.by_interval,
        shared=lambda cfg, width: width * cfg.count("moe_num_shared_experts", default=0),
        correction=True,
        correction_is_parameter=True,
    ),
    "hunyuan_v1_moe": Routed(
        Style(qkv_bias="attention_bias", o_bias="attention_bias", qk_norm="head"),
        width=INTERMEDIATE,
        shared=_one_shared,
    ),
    "glm4_moe": Routed(
        Style(qkv_bias="attention_bias", qk_norm="head", qk_norm_key="use_qk_norm"),
        sparse=routing.after_dense,
        correction=True,
    ),
    "deepseek": Routed(
        Style(qkv_bias="attention_bias", o_bias="attention_bias"), sparse=routing.after_dense
    ),
    "dots1": Routed(
        Style(
            qkv_bias="attention_bias",
            o_bias="attention_bias",
            qk_norm="head",
            windows=windows.typed_or_full,
        ),
        sparse=routing.after_dense,
        correction=True,
    ),
    "exaone_moe": Routed(
        Style(qk_norm="head", windows=windows.every_nth_full(4)),
        sparse=routing.after_dense,
        correction=True,
    ),
    "hy_v3": Routed(
        Style(
            qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias", qk_norm="head"
        ),
        sparse=routing.after_dense,
        correction=True,
    ),
    "solar_open": Routed(Style(qkv_bias="attention_bias"), correction=True),
    "afmoe": Routed(
        Style(
            qkv_bias="attention_bias",
            o_bias="attention_bias",
            qk_norm="head",
            norms=4,
            output_gate="full",
            windows=windows.every_nth_full(4, "global_attn_every_n_layers"),
        ),
        sparse=routing.after_dense,
        correction=True,
        correction_is_parameter=True,
    ),
    "gpt_oss": Routed(
        Style(
            qkv_bias=True,
            o_bias=True,
            mlp_bias=True,
            sinks=True,
            windows=windows.every_nth_full(2),
        ),
        width=INTERMEDIATE,
        shared=_no_shared,
        router_bias=True,
    ),
}


def read(cfg: Fields) -> Model:
    """A mixture-of-experts decoder of one of the families in `FAMILIES`."""
    family = FAMILIES[cfg.text("model_type")]
    mixers = windowed(attention_of(cfg, family.style), family.style, cfg)
    sparse = experts_of(cfg, family)
    layers = [
        layer_of(cfg, family.style, mixer, sparse, _correction(family, sparse))
        if routed
        else layer_of(cfg, family.style, mixer, _dense(cfg, family))
        for mixer, routed in zip(mixers, family.sparse(cfg), strict=True)
    ]
    return with_prediction(cfg, framed(cfg, family.style, layers))


def experts_of(cfg: Fields, family: Routed) -> MoE:
    """The routed part in the family's layout."""
    width = cfg.size(*family.width)
    return routing.experts(
        cfg,
        width=width,
        shared_width=family.shared(cfg, width),
        shared_gate=family.shared_gate,
        bias=flag(cfg, family.style.mlp_bias),
        router_bias=family.router_bias,
        router_correction=family.correction,
    )


def _correction(family: Routed, sparse: MoE) -> int:
    return sparse.experts if family.correction_is_parameter else 0


def _dense(cfg: Fields, family: Routed) -> FFN:
    return DenseFFN(width=gated_width(cfg), bias=flag(cfg, family.style.mlp_bias))
