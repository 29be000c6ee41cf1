"""Exact parameter counts of a model, by component.

What is counted is what `parameters()` of the transformers implementation holds: buffers, such as
the correction biases of DeepSeek's routers, are not parameters; tied and shared weights count once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from analyzer.model import (
    FFN,
    MLA,
    Attention,
    CompressedAttention,
    DenseFFN,
    GatedDelta,
    Indexer,
    Layer,
    Lightning,
    Linear,
    Mamba1,
    Mamba2,
    Mixer,
    Model,
    MoE,
    ShortConv,
)


class ParameterCount(msgspec.Struct, frozen=True, kw_only=True):
    """Parameters (not bytes) of a model, without its multi-token-prediction layers."""

    embedding: int
    """Token embedding, learned positions and other look-up tables."""
    head: int
    """The head's own parameters: none of the matrix where it is tied to the embedding."""
    mixer: int
    ffn: int
    """Dense and shared parts, routers and all routed experts."""
    norms: int
    other: int
    experts_idle: int
    """Parameters of the routed experts that one token does not visit (part of `ffn`)."""
    prediction: int
    """Multi-token-prediction layers: beside the total, not in it."""

    @property
    def total(self) -> int:
        """All parameters."""
        return self.embedding + self.head + self.mixer + self.ffn + self.norms + self.other

    @property
    def active(self) -> int:
        """Parameters that one token's pass can touch: all but the experts it does not visit."""
        return self.total - self.experts_idle


def count_parameters(model: Model) -> ParameterCount:
    """Parameters of `model`, by component."""
    mixer = ffn = norms = other = idle = 0
    for layer, times in model.layer_groups().items():
        other += times * _linears(layer.linears)
        if layer.weights_shared:
            continue
        mixer += times * (mixer_parameters(layer.mixer, model.hidden))
        mixer += times * mixer_parameters(layer.beside, model.hidden)
        ffn += times * ffn_parameters(layer.ffn, model.hidden)
        idle += times * idle_parameters(layer.ffn, model.hidden)
        norms += times * layer.norm_params
        other += times * layer.extra_params
    return ParameterCount(
        embedding=_embedding(model),
        head=_head(model),
        mixer=mixer,
        ffn=ffn,
        norms=norms + model.final_norm_params,
        other=other + model.extra_params + _linears(model.linears),
        experts_idle=idle,
        prediction=sum(layer_parameters(layer, model.hidden) for layer in model.prediction_layers),
    )


def layer_parameters(layer: Layer, hidden: int) -> int:
    """All parameters of one layer (those it shares with another layer included)."""
    return (
        mixer_parameters(layer.mixer, hidden)
        + mixer_parameters(layer.beside, hidden)
        + ffn_parameters(layer.ffn, hidden)
        + layer.norm_params
        + layer.extra_params
        + _linears(layer.linears)
    )


def mixer_parameters(mixer: Mixer | None, hidden: int) -> int:
    """Parameters of a token mixer in a residual stream of width `hidden`."""
    return 0 if mixer is None else _MIXERS[type(mixer)](mixer, hidden)


def ffn_parameters(ffn: FFN | None, hidden: int) -> int:
    """Parameters of a feed-forward part in a residual stream of width `hidden`."""
    return 0 if ffn is None else _FFNS[type(ffn)](ffn, hidden)


def idle_parameters(ffn: FFN | None, hidden: int) -> int:
    """Parameters of the routed experts that one token does not visit."""
    if not isinstance(ffn, MoE):
        return 0
    return (ffn.experts - ffn.top_k) * expert_parameters(ffn, hidden)


def expert_parameters(ffn: MoE, hidden: int) -> int:
    """Parameters of one routed expert."""
    return _mlp(ffn.latent or hidden, ffn.width, ffn.gated, ffn.bias)


def _linear(inputs: int, outputs: int, bias: bool = False) -> int:
    return inputs * outputs + (outputs if bias else 0)


def _linears(linears: tuple[Linear, ...]) -> int:
    return sum(_linear(one.inputs, one.outputs, one.bias) for one in linears)


def _mlp(hidden: int, width: int, gated: bool, bias: bool) -> int:
    up = _linear(hidden, width, bias)
    return up * (2 if gated else 1) + _linear(width, hidden, bias)


def _embedding(model: Model) -> int:
    width = model.embedding_dim or model.hidden
    tables = sum(table.rows * table.width for table in model.tables)
    return model.vocab * width + model.learned_positions * model.hidden + tables


def _head(model: Model) -> int:
    width = model.embedding_dim or model.hidden
    matrix = 0 if model.tied_embeddings else model.vocab * width
    return matrix + (model.vocab if model.lm_head_bias else 0)


def _indexer(indexer: Indexer | None, hidden: int, latent: int) -> int:
    if indexer is None or indexer.reused:
        return 0
    query_input = latent if indexer.from_latent else hidden
    total = query_input * indexer.heads * indexer.head_dim + hidden * indexer.head_dim
    if indexer.head_weights:
        total += hidden * indexer.heads
    if indexer.rms_norms:
        return total + 2 * indexer.head_dim
    return total + (2 * indexer.head_dim if indexer.key_norm else 0)


def _qk_norm(attention: Attention) -> int:
    own_keys = 0 if attention.shares_kv else attention.kv_heads
    heads = {
        "none": 0,
        "head": 1 if attention.shares_kv else 2,
        "full": attention.heads + own_keys,
    }
    return heads[attention.qk_norm] * attention.head_dim


def _attention(mixer: Attention, hidden: int) -> int:
    inputs = mixer.input_width or hidden
    v_dim = mixer.v_head_dim or mixer.head_dim
    total = _linear(inputs, mixer.heads * mixer.head_dim, mixer.q_bias)
    if not mixer.shares_kv:
        total += _linear(inputs, mixer.kv_heads * mixer.head_dim, mixer.k_bias)
        if not mixer.key_is_value:
            total += _linear(inputs, mixer.kv_heads * v_dim, mixer.v_bias)
    total += _linear(mixer.heads * v_dim, hidden, mixer.o_bias)
    gate = {"none": 0, "head": mixer.heads, "full": mixer.heads * v_dim}
    total += inputs * gate[mixer.output_gate]
    total += mixer.heads if mixer.sinks else 0
    return total + _qk_norm(mixer) + _indexer(mixer.indexer, hidden, hidden)


def _mla(mixer: MLA, hidden: int) -> int:
    q_out = mixer.heads * (mixer.nope_dim + mixer.rope_dim)
    if mixer.q_lora_rank is None:
        total = hidden * q_out
    else:
        total = _linear(hidden, mixer.q_lora_rank, mixer.qkv_bias) + mixer.q_lora_rank
        total += mixer.q_lora_rank * q_out
    total += _linear(hidden, mixer.kv_lora_rank + mixer.rope_dim, mixer.qkv_bias)
    total += mixer.kv_lora_rank
    total += mixer.kv_lora_rank * mixer.heads * (mixer.nope_dim + mixer.v_dim)
    total += _linear(mixer.heads * mixer.v_dim, hidden, mixer.qkv_bias)
    total += hidden * mixer.heads * mixer.v_dim if mixer.output_gate else 0
    return total + _indexer(mixer.indexer, hidden, mixer.q_lora_rank or hidden)


def _compressor(hidden: int, width: int, ratio: int, overlap: bool) -> int:
    """Key-value and gate projections, a bias per position in the window, and a norm."""
    wide = 2 * width if overlap else width
    return 2 * hidden * wide + ratio * wide + width


def _compressed(mixer: CompressedAttention, hidden: int) -> int:
    inner = mixer.heads * mixer.head_dim
    total = hidden * mixer.q_lora_rank + mixer.q_lora_rank + mixer.q_lora_rank * inner
    total += hidden * mixer.head_dim + mixer.head_dim
    total += inner * mixer.o_rank + mixer.o_groups * mixer.o_rank * hidden
    total += mixer.heads
    if mixer.ratio is None:
        return total
    total += _compressor(hidden, mixer.head_dim, mixer.ratio, mixer.overlap)
    indexer = mixer.indexer
    if indexer is not None:
        total += mixer.q_lora_rank * indexer.heads * indexer.head_dim + hidden * indexer.heads
        total += _compressor(hidden, indexer.head_dim, mixer.ratio, mixer.overlap)
    return total


def _mamba1(mixer: Mamba1, hidden: int) -> int:
    total = _linear(hidden, 2 * mixer.inner, mixer.proj_bias)
    total += mixer.inner * mixer.conv + (mixer.inner if mixer.conv_bias else 0)
    total += mixer.inner * (mixer.dt_rank + 2 * mixer.state)
    total += _linear(mixer.dt_rank, mixer.inner, bias=True)
    total += mixer.inner * mixer.state + mixer.inner
    total += mixer.dt_rank + 2 * mixer.state if mixer.inner_norms else 0
    return total + _linear(mixer.inner, hidden, mixer.proj_bias)


def _mamba2(mixer: Mamba2, hidden: int) -> int:
    mixed = mixer.inner + 2 * mixer.groups * mixer.state
    total = _linear(hidden, mixer.inner + mixed + mixer.heads, mixer.proj_bias)
    total += mixed * mixer.conv + (mixed if mixer.conv_bias else 0)
    total += 3 * mixer.heads + (mixer.inner if mixer.gated_norm else 0)
    return total + _linear(mixer.inner, hidden, mixer.proj_bias)


def _gated_delta(mixer: GatedDelta, hidden: int) -> int:
    keys = mixer.key_heads * mixer.key_dim
    values = mixer.value_heads * mixer.value_dim
    total = hidden * (2 * keys + values) + (2 * keys + values) * mixer.conv
    total += hidden * mixer.value_heads + mixer.value_dim + values * hidden
    if not mixer.per_channel_decay:
        return total + hidden * values + hidden * mixer.value_heads + 2 * mixer.value_heads
    low_rank = hidden * mixer.gate_rank + mixer.gate_rank * values
    total += low_rank + values + mixer.value_heads
    return total + (hidden * values if mixer.full_rank_gate else low_rank)


def _lightning(mixer: Lightning, hidden: int) -> int:
    inner = mixer.heads * mixer.head_dim
    return 5 * hidden * inner + inner


def _short_conv(mixer: ShortConv, hidden: int) -> int:
    total = _linear(hidden, 3 * mixer.width, mixer.bias) + mixer.width * mixer.conv
    total += mixer.width if mixer.bias else 0
    return total + _linear(mixer.width, hidden, mixer.bias)


def _dense(ffn: DenseFFN, hidden: int) -> int:
    return _mlp(hidden, ffn.width, ffn.gated, ffn.bias)


def _moe(ffn: MoE, hidden: int) -> int:
    total = ffn.experts * expert_parameters(ffn, hidden)
    total += _linear(hidden, ffn.experts, ffn.router_bias)
    if ffn.shared_width:
        total += _mlp(hidden, ffn.shared_width, ffn.gated, ffn.bias)
    if ffn.shared_gate:
        total += hidden
    if ffn.latent is not None:
        total += 2 * hidden * ffn.latent
    return total


_MIXERS: dict[type, Callable[[Any, int], int]] = {
    Attention: _attention,
    MLA: _mla,
    CompressedAttention: _compressed,
    Mamba1: _mamba1,
    Mamba2: _mamba2,
    GatedDelta: _gated_delta,
    Lightning: _lightning,
    ShortConv: _short_conv,
}

_FFNS: dict[type, Callable[[Any, int], int]] = {DenseFFN: _dense, MoE: _moe}
