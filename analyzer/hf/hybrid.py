"""Hybrids of attention with state spaces or convolutions: Jamba, Bamba, Granite, LFM2 and more."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.hf import routing
from analyzer.hf.common import (
    attention,
    biased,
    decoder,
    gated_width,
    hidden_size,
    layer_count,
    layer_kinds,
)
from analyzer.hf.fields import Fields
from analyzer.hf.ssm import inner_width, mamba2
from analyzer.model import FFN, DenseFFN, Layer, Mamba1, Mixer, Model, MoE, ShortConv

ATTENTION, OTHER = "full_attention", "linear_attention"


def _plain_layers(cfg: Fields, mixers: Sequence[Mixer], ffns: Sequence[FFN]) -> list[Layer]:
    norm = 2 * hidden_size(cfg)
    return [
        Layer(mixer=mixer, ffn=ffn, norm_params=norm)
        for mixer, ffn in zip(mixers, ffns, strict=True)
    ]


def _chosen(cfg: Fields, kinds: Sequence[str], softmax: Mixer, other: Mixer) -> list[Mixer]:
    table: dict[str, Mixer] = {
        ATTENTION: softmax,
        "attention": softmax,
        OTHER: other,
        "mamba": other,
        "conv": other,
    }
    return [cfg.choice("layer_types", table, kind) for kind in kinds]


def read_jamba(cfg: Fields) -> Model:
    """Jamba: Mamba with inner norms, attention and experts each at a period and an offset."""
    layers = range(layer_count(cfg))
    attn_period, attn_offset = cfg.size("attn_layer_period"), cfg.count("attn_layer_offset")
    period, offset = cfg.size("expert_layer_period"), cfg.count("expert_layer_offset")
    hidden = hidden_size(cfg)
    rank = cfg.raw.get("mamba_dt_rank", "auto")
    mamba = Mamba1(
        inner=inner_width(cfg, "mamba_expand"),
        state=cfg.size("mamba_d_state"),
        conv=cfg.size("mamba_d_conv"),
        dt_rank=-(-hidden // 16) if rank == "auto" else cfg.size("mamba_dt_rank"),
        conv_bias=cfg.flag("mamba_conv_bias", default=True),
        proj_bias=cfg.flag("mamba_proj_bias", default=False),
        inner_norms=True,
    )
    dense: FFN = DenseFFN(width=gated_width(cfg))
    many = cfg.size("num_experts") > 1
    sparse: FFN = routing.experts(cfg, width=gated_width(cfg)) if many else dense
    softmax = attention(cfg, rope=False)
    mixers = [softmax if layer % attn_period == attn_offset else mamba for layer in layers]
    ffns = [sparse if layer % period == offset else dense for layer in layers]
    return decoder(cfg, _plain_layers(cfg, mixers, ffns))


def read_bamba(cfg: Fields) -> Model:
    """Bamba: Mamba-2 with attention in the listed layers."""
    bias = cfg.flag("attention_bias", default=False)
    softmax = attention(cfg, **biased(bias), o_bias=bias)
    proj_bias = cfg.flag("mamba_proj_bias", default=False)
    mamba = mamba2(cfg, inner_width(cfg, "mamba_expand"), proj_bias=proj_bias)
    listed = cfg.sequence("attn_layer_indices") if cfg.has("attn_layer_indices") else ()
    mixers = [softmax if layer in listed else mamba for layer in range(layer_count(cfg))]
    ffn = DenseFFN(width=gated_width(cfg), bias=cfg.flag("mlp_bias", default=False))
    return decoder(cfg, _plain_layers(cfg, mixers, [ffn] * len(mixers)))


def read_granite(cfg: Fields) -> Model:
    """Granite-4: Mamba-2 or attention, then experts beside a shared FFN, or that FFN alone."""
    bias = cfg.flag("attention_bias", default=False)
    rope = cfg.text("position_embedding_type", default="nope") == "rope"
    softmax = attention(cfg, **biased(bias), o_bias=bias, rope=rope)
    proj_bias = cfg.flag("mamba_proj_bias", default=False)
    mamba = mamba2(cfg, inner_width(cfg, "mamba_expand"), proj_bias=proj_bias)
    kinds = layer_kinds(cfg, [OTHER] * layer_count(cfg))
    shared = cfg.size("shared_intermediate_size")
    ffn: FFN = DenseFFN(width=shared)
    if cfg.count("num_local_experts", default=0):
        ffn = routing.experts(cfg, width=gated_width(cfg), shared_width=shared)
    mixers = _chosen(cfg, kinds, softmax, mamba)
    return decoder(cfg, _plain_layers(cfg, mixers, [ffn] * len(mixers)))


def read_falcon_h1(cfg: Fields) -> Model:
    """Falcon-H1: attention and Mamba-2 side by side in every layer."""
    bias = cfg.flag("attention_bias", default=False)
    inner = cfg.optional_size("mamba_d_ssm") or inner_width(cfg, "mamba_expand")
    mamba = mamba2(
        cfg,
        inner,
        proj_bias=cfg.flag("mamba_proj_bias", default=False),
        gated_norm=cfg.flag("mamba_rms_norm", default=False),
    )
    layer = Layer(
        mixer=attention(cfg, **biased(bias), o_bias=bias),
        beside=mamba,
        ffn=DenseFFN(width=gated_width(cfg), bias=cfg.flag("mlp_bias", default=False)),
        norm_params=2 * hidden_size(cfg),
    )
    return decoder(cfg, [layer] * layer_count(cfg))


def read_lfm2(cfg: Fields) -> Model:
    """LFM2 and its mixture of experts: short convolutions with attention in between."""
    hidden = hidden_size(cfg)
    conv = ShortConv(
        width=hidden,
        conv=cfg.size("conv_L_cache"),
        bias=cfg.flag("conv_bias", default=False),
    )
    layers = layer_count(cfg)
    listed = cfg.sequence("full_attn_idxs") if cfg.has("full_attn_idxs") else range(layers)
    pattern = [ATTENTION if layer in listed else "conv" for layer in range(layers)]
    mixers = _chosen(cfg, layer_kinds(cfg, pattern), attention(cfg, qk_norm="head"), conv)
    dense: FFN = DenseFFN(width=_lfm2_width(cfg))
    ffns = [dense] * layers
    if cfg.has(*routing.EXPERTS):
        sparse = _lfm2_experts(cfg)
        ffns = [sparse if routed else dense for routed in routing.after_dense(cfg)]
    return decoder(cfg, _plain_layers(cfg, mixers, ffns), tied=True)


def _lfm2_experts(cfg: Fields) -> MoE:
    return routing.experts(
        cfg,
        width=cfg.size("moe_intermediate_size"),
        router_correction=cfg.flag("use_expert_bias", default=True),
    )


def _lfm2_width(cfg: Fields) -> int:
    """LFM2 states the width of an ungated FFN and shrinks it to two thirds, rounded up."""
    width = cfg.size("intermediate_size", "block_ff_dim")
    if cfg.has(*routing.EXPERTS) or not cfg.flag("block_auto_adjust_ff_dim", default=True):
        return width
    width = int(cfg.number("block_ffn_dim_multiplier", default=1.0) * int(2 * width / 3))
    multiple = cfg.size("block_multiple_of", default=256)
    return -(-width // multiple) * multiple
