"""Linear attention: gated delta rule, Kimi Delta Attention, lightning attention."""

from __future__ import annotations

from analyzer.counting.linear import linear
from analyzer.counting.numeric import ceil
from analyzer.counting.recurrence import (
    Scan,
    chunk_cubes,
    chunk_pairs,
    convolution,
    gate,
    scans,
)
from analyzer.counting.work import Work
from analyzer.model import GatedDelta, Lightning
from analyzer.optable import Number, Op

DELTA_CHUNK = 64.0
LIGHTNING_CHUNK = 256.0


def gated_delta(work: Work, kind: GatedDelta) -> list[Op]:
    """Projections, convolution over queries, keys and values, delta rule, gated norm, output."""
    key_heads, heads = ceil(kind.key_heads / work.local), ceil(kind.value_heads / work.local)
    keys, values = key_heads * kind.key_dim, heads * kind.value_dim
    mixed = 2.0 * keys + values
    hidden = float(work.hidden)
    decays = values + heads if kind.per_channel_decay else 2.0 * heads
    return [
        *_delta_project(work, kind, mixed, values, heads),
        convolution(work, "delta", mixed, float(kind.conv), False, decays),
        *scans(work, "delta", _delta_rule(kind, heads, keys)),
        gate(work, "delta", values, float(kind.value_dim)),
        linear(work, "delta.out", values, hidden),
    ]


def _delta_project(
    work: Work, kind: GatedDelta, mixed: Number, values: Number, heads: Number
) -> list[Op]:
    hidden, rank = float(work.hidden), float(kind.gate_rank)
    if not kind.per_channel_decay:
        return [linear(work, "delta.in", hidden, mixed + values + 2.0 * heads, pieces=2.0)]
    low_ranks = 1.0 if kind.full_rank_gate else 2.0
    full = values if kind.full_rank_gate else 0.0
    outputs = mixed + heads + low_ranks * rank + full
    return [
        linear(work, "delta.in", hidden, outputs, pieces=6.0),
        linear(work, "delta.gates", rank, low_ranks * values, pieces=low_ranks),
    ]


def _delta_rule(kind: GatedDelta, heads: Number, keys: Number) -> Scan:
    """Chunked: K·Kᵀ, the inverse of a unit triangular matrix (a third of a cube), its products with
    keys and values, attention within the chunk, and three products with the state per token.
    One at a time: decay, read for the key, outer-product update, read for the query."""
    key, value = float(kind.key_dim), float(kind.value_dim)

    def chunked(tokens: Number) -> Number:
        pairs = chunk_pairs(tokens, DELTA_CHUNK)
        within = 2.0 * (pairs - tokens) * key + 4.0 * pairs * (key + value)
        inverse = chunk_cubes(tokens, DELTA_CHUNK) / 3.0
        return heads * (within + inverse + 6.0 * tokens * key * value)

    values = heads * value
    return Scan(
        chunked=chunked,
        per_token=7.0 * heads * key * value,
        chunked_vector=heads * (DELTA_CHUNK + 6.0 * (key + value)),
        state=heads * key * value,
        moved=2.0 * keys + 2.0 * values + (values if kind.per_channel_decay else 2.0 * heads),
        heads=heads,
        width=key,
    )


def lightning(work: Work, kind: Lightning) -> list[Op]:
    """Projections and linear attention with a fixed decay per head."""
    heads, width = ceil(kind.heads / work.local), float(kind.head_dim)
    inner, hidden = heads * width, float(work.hidden)

    def chunked(tokens: Number) -> Number:
        pairs = chunk_pairs(tokens, LIGHTNING_CHUNK)
        return heads * (4.0 * pairs * width + 4.0 * tokens * width * width)

    scan = Scan(
        chunked=chunked,
        per_token=5.0 * inner * width,
        chunked_vector=heads * (LIGHTNING_CHUNK / 2.0 + 2.0 * width),
        state=inner * width,
        moved=4.0 * inner,
        heads=heads,
        width=width,
    )
    return [
        linear(work, "lightning.in", hidden, 4.0 * inner, pieces=2.0),
        *scans(work, "lightning", scan),
        gate(work, "lightning", inner, inner),
        linear(work, "lightning.out", inner, hidden),
    ]
