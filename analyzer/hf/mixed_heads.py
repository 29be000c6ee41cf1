"""Experts behind attention whose heads differ by layer: Step-3.5/3.7 and MiMo-V2."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.hf import routing
from analyzer.hf.common import (
    attention,
    biased,
    decoder,
    gated_width,
    head_count,
    hidden_size,
    layer_count,
    with_prediction,
)
from analyzer.hf.fields import Fields
from analyzer.hf.windows import FULL, SLIDING
from analyzer.model import FFN, Attention, DenseFFN, Layer, Model


def _layers(
    cfg: Fields, mixers: Sequence[Attention], sparse: FFN, routed: Sequence[bool]
) -> list[Layer]:
    dense = DenseFFN(width=gated_width(cfg)) if not all(routed) else None
    norm = 2 * hidden_size(cfg)
    return [
        Layer(mixer=mixer, ffn=sparse if experts else dense, norm_params=norm)
        for mixer, experts in zip(mixers, routed, strict=True)
    ]


def read_step(cfg: Fields) -> Model:
    """Step-3.5 and 3.7: a gate per head, and more heads in the windowed layers."""
    bias = cfg.flag("attention_bias", default=False)
    other = cfg.optional_child("attention_other_setting")
    sliding_heads = other.size(
        "num_attention_heads",
        default=cfg.size("num_sliding_attention_heads", default=head_count(cfg)),
    )
    kv_heads = cfg.size("num_key_value_heads", "num_attention_groups")
    shared = {
        **biased(bias),
        "o_bias": bias,
        "qk_norm": "head",
        "output_gate": "head",
        "kv_heads": kv_heads,
    }
    table = {FULL: attention(cfg, **shared)}
    kinds = _kinds(cfg)
    if SLIDING in kinds:
        window = cfg.size("sliding_window")
        table[SLIDING] = attention(cfg, **{**shared, "heads": sliding_heads}, window=window)
    mixers = [cfg.choice("layer_types", table, kind) for kind in kinds]
    sparse = routing.experts(
        cfg,
        width=cfg.size("moe_intermediate_size"),
        shared_width=cfg.size("share_expert_dim", "share_expert_dims"),
        router_correction=cfg.flag("use_moe_router_bias", default=True),
    )
    return with_prediction(cfg, decoder(cfg, _layers(cfg, mixers, sparse, _step_sparse(cfg))))


def _kinds(cfg: Fields) -> Sequence[str]:
    """`layer_types`; released files append the kinds of the prediction layers."""
    layers = layer_count(cfg)
    if not cfg.has("layer_types"):
        return [FULL] * layers
    kinds = cfg.sequence("layer_types")
    drafts = cfg.count("num_nextn_predict_layers", default=0)
    return (
        kinds[:layers]
        if len(kinds) == layers + drafts
        else cfg.sequence("layer_types", length=layers)
    )


def _step_sparse(cfg: Fields) -> Sequence[bool]:
    if cfg.has("moe_layers_enum"):
        listed = cfg.raw["moe_layers_enum"]
        names = listed.split(",") if isinstance(listed, str) else listed
        chosen = {int(name) for name in names}
        return [layer in chosen for layer in range(layer_count(cfg))]
    if cfg.has("mlp_layer_types", "first_k_dense_replace"):
        return routing.after_dense(cfg)
    return [layer >= 3 for layer in range(layer_count(cfg))]


def read_mimo(cfg: Fields) -> Model:
    """MiMo-V2: sinks and other key-value heads in the windowed layers, narrower values."""
    bias = cfg.flag("attention_bias", default=False)
    full = attention(cfg, **biased(bias), v_head_dim=cfg.size("v_head_dim"))
    sliding = attention(
        cfg,
        **biased(bias),
        heads=cfg.size("swa_num_attention_heads", default=full.heads),
        kv_heads=cfg.size("swa_num_key_value_heads", default=8),
        head_dim=cfg.size("swa_head_dim", default=full.head_dim),
        v_head_dim=cfg.size("swa_v_head_dim", default=cfg.size("v_head_dim")),
        window=cfg.size("sliding_window", "sliding_window_size"),
        sinks=cfg.flag("add_swa_attention_sink_bias", default=True),
    )
    mixers = [sliding if slides else full for slides in _mimo_windows(cfg)]
    width = cfg.size("moe_intermediate_size")
    sparse = routing.experts(
        cfg,
        width=width,
        shared_width=routing.shared_count_width(cfg, width),
        router_correction=True,
    )
    layers = _layers(cfg, mixers, sparse, routing.after_dense(cfg))
    return with_prediction(cfg, decoder(cfg, layers))


def _mimo_windows(cfg: Fields) -> Sequence[bool]:
    layers = layer_count(cfg)
    if cfg.has("hybrid_layer_pattern"):
        return [bool(one) for one in cfg.sequence("hybrid_layer_pattern", length=layers)]
    kinds = cfg.sequence("layer_types", length=layers)
    return [cfg.choice("layer_types", {SLIDING: True, FULL: False}, kind) for kind in kinds]
