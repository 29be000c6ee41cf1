"""Gemma-3n and Gemma-4: shared key-value caches, per-layer embeddings, experts beside the FFN."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzer.hf import routing
from analyzer.hf.common import attention, biased, decoder, hidden_size, layer_count
from analyzer.hf.fields import Fields
from analyzer.hf.windows import FULL, SLIDING
from analyzer.model import FFN, Attention, DenseFFN, Layer, Linear, Model, Table


def _kinds(cfg: Fields, period: int) -> Sequence[str]:
    layers = layer_count(cfg)
    if cfg.has("layer_types"):
        return cfg.sequence("layer_types", length=layers)
    return [FULL if (layer + 1) % period == 0 else SLIDING for layer in range(layers)]


def _first_shared(cfg: Fields) -> int:
    """The first layer that reads an earlier layer's cache; the number of layers if none does."""
    layers = layer_count(cfg)
    return layers - cfg.count("num_kv_shared_layers", default=0)


def _per_layer_inputs(cfg: Fields) -> int:
    return cfg.count("hidden_size_per_layer_input", default=0)


def _per_layer_tables(cfg: Fields) -> dict[str, Any]:
    """The second embedding, which gives every layer a small input of its own."""
    width, hidden = _per_layer_inputs(cfg), hidden_size(cfg)
    if not width:
        return {}
    together = width * layer_count(cfg)
    rows = cfg.size("vocab_size_per_layer_input", default=cfg.size("vocab_size"))
    return {
        "tables": (Table(rows=rows, width=together),),
        "linears": (Linear(inputs=hidden, outputs=together),),
        "extra_params": width,
    }


def _gates(cfg: Fields) -> tuple[Linear, ...]:
    """The two projections by which a layer takes in its own input."""
    width, hidden = _per_layer_inputs(cfg), hidden_size(cfg)
    if not width:
        return ()
    return (Linear(inputs=hidden, outputs=width), Linear(inputs=width, outputs=hidden))


def read_3n(cfg: Fields) -> Model:
    """Gemma-3n: four residual streams (AltUp) and a low-rank branch beside attention (LAuReL)."""
    hidden, streams = hidden_size(cfg), cfg.size("altup_num_inputs", default=4)
    rank = cfg.size("laurel_rank", default=64)
    linears = (
        *_gates(cfg),
        Linear(inputs=hidden, outputs=rank),
        Linear(inputs=rank, outputs=hidden),
        Linear(inputs=hidden, outputs=streams),
        Linear(inputs=streams, outputs=streams * streams),
        Linear(inputs=streams, outputs=streams),
    )
    layers = [
        Layer(
            mixer=_mixer_3n(cfg, kind, number),
            ffn=DenseFFN(width=width),
            norms=7,
            norm_params=7 * hidden,
            extra_params=hidden,
            linears=linears,
        )
        for number, (kind, width) in enumerate(zip(_kinds(cfg, 5), _widths(cfg), strict=True))
    ]
    around = _per_layer_tables(cfg)
    mixing = (Linear(inputs=hidden, outputs=hidden),) * (2 * (streams - 1))
    around["linears"] = (*around.get("linears", ()), *mixing)
    return decoder(cfg, layers, tied=True, residual_streams=streams, **around)


def _widths(cfg: Fields) -> list[int]:
    layers = layer_count(cfg)
    if isinstance(cfg.raw.get("intermediate_size"), int):
        return [cfg.size("intermediate_size")] * layers
    widths = cfg.sequence("intermediate_size", length=layers)
    return [cfg.checked_size("intermediate_size", width) for width in widths]


def _mixer_3n(cfg: Fields, kind: str, number: int) -> Attention:
    bias = cfg.flag("attention_bias", default=False)
    window = {SLIDING: cfg.size("sliding_window"), FULL: None}
    return attention(
        cfg,
        **biased(bias),
        o_bias=bias,
        qk_norm="head",
        window=cfg.choice("layer_types", window, kind),
        shares_kv=number >= _first_shared(cfg) > 0,
    )


def read_4(cfg: Fields) -> Model:
    """Gemma-4: wider heads in the full layers, where one projection is key and value."""
    hidden = hidden_size(cfg)
    sparse = cfg.flag("enable_moe_block", default=False)
    # Beside the experts: norms of both branches; a scale per channel and one per expert.
    norms = 4 + (3 if sparse else 0) + (1 if _per_layer_inputs(cfg) else 0)
    layers = [
        Layer(
            mixer=_mixer_4(cfg, kind, number),
            ffn=_ffn_4(cfg, number, sparse),
            norms=norms,
            norm_params=norms * hidden,
            extra_params=hidden + cfg.size("num_experts") if sparse else 0,
            linears=_gates(cfg),
        )
        for number, kind in enumerate(_kinds(cfg, 6))
    ]
    return decoder(cfg, layers, tied=True, **_per_layer_tables(cfg))


def _mixer_4(cfg: Fields, kind: str, number: int) -> Attention:
    bias = cfg.flag("attention_bias", default=False)
    shared = {
        **biased(bias),
        "o_bias": bias,
        "qk_norm": "head",
        "shares_kv": number >= _first_shared(cfg),
    }
    if kind == SLIDING:
        return attention(cfg, **shared, window=cfg.size("sliding_window"))
    if kind != FULL:
        cfg.choice("layer_types", {SLIDING: None, FULL: None}, kind)
    one = cfg.flag("attention_k_eq_v", default=False)
    head_dim = cfg.size("global_head_dim", default=512)
    if one and cfg.has("num_global_key_value_heads"):
        shared["kv_heads"] = cfg.size("num_global_key_value_heads")
    return attention(cfg, **shared, head_dim=head_dim, key_is_value=one)


def _ffn_4(cfg: Fields, number: int, sparse: bool) -> FFN:
    width = cfg.size("intermediate_size")
    if cfg.flag("use_double_wide_mlp", default=False) and number >= _first_shared(cfg) > 0:
        width *= 2
    if not sparse:
        return DenseFFN(width=width)
    return routing.experts(cfg, width=cfg.size("moe_intermediate_size"), shared_width=width)
