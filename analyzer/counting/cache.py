"""What one sequence keeps in a device's memory: keys and values, which grow, and states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from analyzer.counting.alike import mixers_of
from analyzer.counting.attention import held, window
from analyzer.counting.compressed import entries_held
from analyzer.counting.context import Layout
from analyzer.counting.numeric import ceil, pick
from analyzer.model import (
    MLA,
    Attention,
    CompressedAttention,
    GatedDelta,
    Indexer,
    Kind,
    Lightning,
    Mamba1,
    Mamba2,
    Model,
    ShortConv,
)
from analyzer.optable import Number


class Kept(NamedTuple):
    """Bytes of one sequence on one device that holds it."""

    kv_B: Number
    """Keys, values and latents; grows with the context."""
    state_B: Number
    """Recurrent states and the convolutions' windows; does not."""

    @property
    def total_B(self) -> Number:
        """Both together."""
        return self.kv_B + self.state_B


def cache_B(model: Model, layout: Layout, context: Number, layers: slice | None = None) -> Kept:
    """What the layers of a stage keep of one sequence with `context` tokens."""
    local = layout.tp / layout.attention_dp
    kv: Number = 0.0 * context
    state: Number = 0.0 * local
    for kind, times in mixers_of(model, layers):
        kept = CACHES[type(kind)](kind, layout, local, context)
        kv, state = kv + times * kept.kv_B, state + times * kept.state_B
    return Kept(kv, state)


def _attention(kind: Attention, layout: Layout, local: Number, context: Number) -> Kept:
    if kind.shares_kv or kind.cross:
        return Kept(0.0, 0.0)
    values = ceil(kind.kv_heads / local) * (kind.head_dim + (kind.v_head_dim or kind.head_dim))
    index = _index_dim(kind.indexer) * context
    return Kept((values * held(window(kind, layout), context) + index) * layout.kv_B, 0.0)


def _mla(kind: MLA, layout: Layout, local: Number, context: Number) -> Kept:
    values = float(kind.kv_lora_rank + kind.rope_dim) + _index_dim(kind.indexer)
    return Kept(values * context * layout.kv_B, 0.0)


def _index_dim(indexer: Indexer | None) -> float:
    return 0.0 if indexer is None or indexer.reused else float(indexer.head_dim)


def _compressed(kind: CompressedAttention, layout: Layout, local: Number, context: Number) -> Kept:
    """Entries, and what waits to be compressed: keys and gates of the tokens since the last entry,
    and of the last finished window where windows overlap."""
    raw, packed = entries_held(kind, context)
    index = _index_dim(kind.indexer)
    kv_B = ((raw + packed) * kind.head_dim + packed * index) * layout.kv_B
    if kind.ratio is None:
        return Kept(kv_B, 0.0)
    series, overlap = (
        (2.0, pick(packed > 0, float(kind.ratio), 0.0)) if kind.overlap else (1.0, 0.0)
    )
    waiting = series * (context - packed * kind.ratio) + overlap
    return Kept(kv_B, 2.0 * waiting * (kind.head_dim + index) * layout.act_B)


def _mamba1(kind: Mamba1, layout: Layout, local: Number, context: Number) -> Kept:
    per_channel = kind.state * layout.state_B + kind.conv * layout.act_B
    return Kept(0.0, kind.inner / local * per_channel)


def _mamba2(kind: Mamba2, layout: Layout, local: Number, context: Number) -> Kept:
    heads, groups = ceil(kind.heads / local), ceil(kind.groups / local)
    inner = heads * kind.head_dim
    window = (inner + 2.0 * groups * kind.state) * kind.conv
    return Kept(0.0, inner * kind.state * layout.state_B + window * layout.act_B)


def _gated_delta(kind: GatedDelta, layout: Layout, local: Number, context: Number) -> Kept:
    heads = ceil(kind.value_heads / local)
    keys, values = ceil(kind.key_heads / local) * kind.key_dim, heads * kind.value_dim
    window = (2.0 * keys + values) * kind.conv
    return Kept(0.0, values * kind.key_dim * layout.state_B + window * layout.act_B)


def _lightning(kind: Lightning, layout: Layout, local: Number, context: Number) -> Kept:
    heads = ceil(kind.heads / local)
    return Kept(0.0, heads * float(kind.head_dim**2) * layout.state_B)


def _short_conv(kind: ShortConv, layout: Layout, local: Number, context: Number) -> Kept:
    return Kept(0.0, kind.width / local * kind.conv * layout.act_B)


CACHES: dict[type[Kind], Callable[[Any, Layout, Number, Number], Kept]] = {
    Attention: _attention,
    MLA: _mla,
    CompressedAttention: _compressed,
    Mamba1: _mamba1,
    Mamba2: _mamba2,
    GatedDelta: _gated_delta,
    Lightning: _lightning,
    ShortConv: _short_conv,
}
"""What each kind of mixer keeps of a sequence."""
