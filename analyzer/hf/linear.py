"""Hybrids of softmax and linear attention: Qwen3-Next, Qwen3.5, MiniMax, Kimi Linear."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.hf import mla, routing
from analyzer.hf.common import (
    attention,
    biased,
    decoder,
    gated_width,
    head_count,
    head_width,
    hidden_size,
    layer_count,
    layer_kinds,
    prediction_layers,
)
from analyzer.hf.fields import Fields
from analyzer.model import FFN, DenseFFN, GatedDelta, Layer, Lightning, Mixer, Model, MoE

FULL, LINEAR = "full_attention", "linear_attention"


def _mixers(cfg: Fields, kinds: Sequence[str], full: Mixer, linear: Mixer) -> list[Mixer]:
    table = {FULL: full, LINEAR: linear}
    return [cfg.choice("layer_types", table, kind) for kind in kinds]


def read_qwen(cfg: Fields) -> Model:
    """Qwen3-Next and Qwen3.5: gated delta rule with a gated full attention at an interval."""
    every = cfg.size("full_attention_interval", default=4)
    pattern = [LINEAR if (layer + 1) % every else FULL for layer in range(layer_count(cfg))]
    bias = cfg.flag("attention_bias", default=False)
    full = attention(cfg, **biased(bias), o_bias=bias, qk_norm="head", output_gate="full")
    linear = GatedDelta(
        key_heads=cfg.size("linear_num_key_heads"),
        value_heads=cfg.size("linear_num_value_heads"),
        key_dim=cfg.size("linear_key_head_dim"),
        value_dim=cfg.size("linear_value_head_dim"),
        conv=cfg.size("linear_conv_kernel_dim"),
    )
    hidden = hidden_size(cfg)
    layers = [
        Layer(mixer=mixer, ffn=ffn, norm_params=2 * hidden)
        for mixer, ffn in zip(
            _mixers(cfg, layer_kinds(cfg, pattern), full, linear), _qwen_ffns(cfg), strict=True
        )
    ]
    drafts = cfg.count("mtp_num_hidden_layers", "num_nextn_predict_layers", default=0)
    last = Layer(mixer=full, ffn=layers[-1].ffn, norm_params=2 * hidden)
    return decoder(cfg, layers, prediction_layers=prediction_layers(last, hidden, drafts))


def _qwen_ffns(cfg: Fields) -> list[FFN]:
    if not cfg.has(*routing.EXPERTS):
        return [DenseFFN(width=gated_width(cfg))] * layer_count(cfg)
    sparse = routing.experts(
        cfg,
        width=cfg.size("moe_intermediate_size"),
        shared_width=cfg.size("shared_expert_intermediate_size"),
        shared_gate=True,
    )
    return [
        sparse if routed else DenseFFN(width=gated_width(cfg)) for routed in routing.by_step(cfg)
    ]


def read_minimax(cfg: Fields) -> Model:
    """MiniMax-Text-01 and M1: lightning attention with a full attention in each eighth layer."""
    pattern = [FULL if (layer + 1) % 2 else LINEAR for layer in range(layer_count(cfg))]
    if cfg.has("attn_type_list"):
        flags = cfg.sequence("attn_type_list", length=layer_count(cfg))
        pattern = [FULL if flag else LINEAR for flag in flags]
    linear = Lightning(heads=head_count(cfg), head_dim=head_width(cfg))
    sparse = routing.experts(cfg, width=gated_width(cfg))
    mixers = _mixers(cfg, layer_kinds(cfg, pattern), attention(cfg), linear)
    norm = 2 * hidden_size(cfg)
    return decoder(cfg, [Layer(mixer=one, ffn=sparse, norm_params=norm) for one in mixers])


def read_kimi(cfg: Fields) -> Model:
    """Kimi Linear: Kimi delta attention with latent attention without positions in between."""
    linear_cfg = cfg.optional_child("linear_attn_config")
    head_dim = linear_cfg.size("head_dim", default=cfg.size("linear_head_dim", default=128))
    heads = linear_cfg.size("num_heads", default=cfg.size("linear_num_heads", default=32))
    linear = GatedDelta(
        key_heads=heads,
        value_heads=heads,
        key_dim=head_dim,
        value_dim=head_dim,
        conv=linear_cfg.size(
            "short_conv_kernel_size", default=cfg.size("linear_conv_kernel_dim", default=4)
        ),
        per_channel_decay=True,
        gate_rank=head_dim,
        full_rank_gate=linear_cfg.flag("use_full_rank_gate", default=False),
    )
    gated = cfg.flag("mla_use_output_gate", default=False)
    full = mla.latent_attention(cfg, rope=False, output_gate=gated)
    sparse = _kimi_experts(cfg)
    dense = DenseFFN(width=gated_width(cfg))
    hidden = hidden_size(cfg)
    layers = [
        Layer(
            mixer=mixer,
            ffn=sparse if routed else dense,
            norm_params=2 * hidden,
            extra_params=(_latent_norm(cfg) if routed else 0) + 4 * _depth_mixing(cfg),
        )
        for mixer, routed in zip(
            _mixers(cfg, _kimi_kinds(cfg, linear_cfg), full, linear),
            routing.after_dense(cfg),
            strict=True,
        )
    ]
    return decoder(
        cfg,
        layers,
        max_context=cfg.optional_size("max_position_embeddings", "model_max_length"),
        extra_params=2 * _depth_mixing(cfg),
    )


def _kimi_experts(cfg: Fields) -> MoE:
    width = cfg.size("moe_intermediate_size")
    return routing.experts(
        cfg,
        width=width,
        shared_width=routing.shared_count_width(cfg, width),
        router_correction=True,
        latent=cfg.optional_size("routed_expert_hidden_size"),
    )


def _depth_mixing(cfg: Fields) -> int:
    """Width of the query, and of the norm, by which Kimi-K3 attends over earlier layers' outputs.

    Mixer and FFN of each layer have one of both, and so does the end of the stack.
    """
    return hidden_size(cfg) if cfg.has("attn_res_block_size") else 0


def _latent_norm(cfg: Fields) -> int:
    """Kimi-K3 norms what comes back from its narrower experts."""
    wanted = cfg.flag("latent_moe_use_norm", default=False)
    return cfg.size("routed_expert_hidden_size") if wanted else 0


def _kimi_kinds(cfg: Fields, linear_cfg: Fields) -> Sequence[str]:
    if cfg.has("layer_types"):
        return cfg.sequence("layer_types", length=layer_count(cfg))
    full = set(linear_cfg.sequence("full_attn_layers"))
    return [FULL if layer + 1 in full else LINEAR for layer in range(layer_count(cfg))]
