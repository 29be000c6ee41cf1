"""Attention of DeepSeek-V4: a window of raw entries and one compressed entry per `ratio` tokens.

One key-value head serves as key and as value and is the same on every rank. A query at position p
sees the window and, of the p/ratio finished entries, all or as many as the indexer chooses.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzer.counting.attention import SOFTMAX_FLOPS, clip, keys_read, visible
from analyzer.counting.context import Segment
from analyzer.counting.elementwise import NORM, ROPE, launches, passes
from analyzer.counting.linear import linear
from analyzer.counting.numeric import ceil, floor, larger, pick, smaller
from analyzer.counting.work import Work
from analyzer.model import CompressedAttention
from analyzer.optable import Number, Op

_SCORE_B = 4.0


class Seen(NamedTuple):
    """What the queries of one sequence see."""

    raw: Number
    """Pairs with entries of the window."""
    packed: Number
    """Pairs with compressed entries."""
    scored: Number
    """Pairs that an indexer scores to choose them."""
    raw_keys: Number
    """Entries of the window that any query sees."""
    packed_keys: Number
    finished: Number
    """Compressed entries that exist."""


def compressed_attention(work: Work, kind: CompressedAttention) -> list[Op]:
    """Projections, compressors, indexer, attention over both kinds of entry, grouped output."""
    heads = ceil(kind.heads / work.local)
    groups = ceil(kind.o_groups / work.local)
    hidden, width = float(work.hidden), float(kind.head_dim)
    rank = float(kind.q_lora_rank)
    inner = heads * width
    ops = [
        linear(work, "v4.down", hidden, rank + width + _compressor_outputs(kind), pieces=4.0),
        linear(work, "v4.query_up", rank, inner + _index_queries(kind)),
        _prepare(work, kind, heads),
    ]
    for segment in work.segments:
        seen = _seen(kind, segment)
        if kind.indexer is not None:
            ops.append(_score(work, kind, segment, seen))
        ops.append(_attend(work, kind, heads, segment, seen))
    grouped = linear(work, "v4.out_groups", inner / groups, groups * kind.o_rank)
    act_B = work.tokens * (inner + groups * kind.o_rank) * work.act_B
    ops.append(grouped._replace(act_B=act_B))
    return [*ops, linear(work, "v4.out", groups * kind.o_rank, hidden)]


def _compressor_outputs(kind: CompressedAttention) -> float:
    """Columns of the compressors' keys and gates and of the index heads' weights."""
    if kind.ratio is None:
        return 0.0
    series = 2.0 * (2.0 if kind.overlap else 1.0)
    outputs = series * kind.head_dim
    if kind.indexer is not None:
        outputs += series * kind.indexer.head_dim + kind.indexer.heads
    return outputs


def _index_queries(kind: CompressedAttention) -> float:
    return float(kind.indexer.heads * kind.indexer.head_dim) if kind.indexer is not None else 0.0


def _prepare(work: Work, kind: CompressedAttention, heads: Number) -> Op:
    """Norms, RoPE, the compressors' weighted means, writing of raw and compressed entries."""
    width, rank = float(kind.head_dim), float(kind.q_lora_rank)
    packed = _compressor_outputs(kind)
    entries = 0.0 if kind.ratio is None else (width + _index_width(kind)) / kind.ratio
    rotated = (heads + 1.0) * kind.rope_dim
    normed = rank + width + heads * width
    per_token = (
        normed * passes(work, NORM)
        + rotated * passes(work, ROPE)
        + (packed + entries + width) * work.act_B
    )
    wide = 2.0 if kind.overlap else 1.0
    weights = rank + width + heads
    if kind.ratio is not None:
        per_width = kind.ratio * wide + 1.0
        weights = weights + per_width * (width + _index_width(kind))
    return Op(
        name="v4.prepare",
        kind="elementwise",
        flops=work.tokens * (normed * NORM.flops + rotated * ROPE.flops + 4.0 * packed),
        weight_B=weights * work.wide_B,
        act_B=work.tokens * per_token,
        kv_B=work.tokens * (width + entries) * work.layout.kv_B,
        launches=3.0 * launches(work, NORM)
        + launches(work, ROPE)
        + (pick(work.fused, 2.0, 12.0) if kind.ratio is not None else 0.0),
    )


def _index_width(kind: CompressedAttention) -> float:
    return float(kind.indexer.head_dim) if kind.indexer is not None else 0.0


def _seen(kind: CompressedAttention, segment: Segment) -> Seen:
    raw, raw_keys = visible(segment, kind.window)
    if kind.ratio is None:
        return Seen(raw, 0.0, 0.0, raw_keys, 0.0, 0.0)
    finished = floor(segment.keys / kind.ratio)
    scored = _entries(segment, float(kind.ratio), None)
    if kind.indexer is None:
        return Seen(raw, scored, 0.0, raw_keys, finished, finished)
    packed = _entries(segment, float(kind.ratio), float(kind.indexer.top_k))
    return Seen(raw, packed, scored, raw_keys, smaller(finished, packed), finished)


def _entries(segment: Segment, ratio: float, limit: float | None) -> Number:
    """Pairs of one sequence's new queries with finished entries, at most `limit` for each."""
    return _entries_before(segment.keys, ratio, limit) - _entries_before(segment.past, ratio, limit)


def _entries_before(positions: Number, ratio: float, limit: float | None) -> Number:
    """The sum of min(limit, floor(p/ratio)) over p = 1 ... positions."""
    beyond: Number = 0.0
    if limit is not None:
        beyond = limit * larger(positions - limit * ratio, 0.0)
        positions = smaller(positions, limit * ratio)
    whole = floor(positions / ratio)
    rest = positions - whole * ratio
    return beyond + ratio * whole * (whole - 1.0) / 2.0 + whole * (rest + 1.0)


def _score(work: Work, kind: CompressedAttention, segment: Segment, seen: Seen) -> Op:
    """The indexer's scores over compressed index keys and its choice; whole on every rank."""
    heads = float(kind.indexer.heads) if kind.indexer is not None else 0.0
    dim = _index_width(kind)
    queries = segment.sequences * segment.new
    scores = segment.sequences * seen.scored
    return Op(
        name="indexer.core",
        kind="attention",
        flops=2.0 * scores * heads * dim,
        act_B=queries * heads * dim * work.act_B + 2.0 * scores * _SCORE_B,
        kv_B=segment.sequences * seen.finished * dim * work.layout.kv_B,
        m=segment.new,
        n=larger(seen.finished, 1.0),
        k=dim,
        groups=segment.sequences,
        heads_per_group=heads,
        launches=2.0,
        compute=work.layout.attention_compute,
        weight_bits=work.layout.kv_B * 8.0,
        vector_flops=scores * (3.0 * heads + 1.0),
    )


def _attend(
    work: Work, kind: CompressedAttention, heads: Number, segment: Segment, seen: Seen
) -> Op:
    width = float(kind.head_dim)
    pairs = segment.sequences * heads * (seen.raw + seen.packed)
    read = keys_read(segment, seen.raw_keys) + segment.sequences * seen.packed_keys
    return Op(
        name="v4.core",
        kind="attention",
        flops=4.0 * pairs * width,
        act_B=2.0 * segment.sequences * segment.new * heads * width * work.act_B,
        kv_B=read * width * work.layout.kv_B,
        m=segment.new,
        n=seen.raw_keys + seen.packed_keys,
        k=width,
        groups=segment.sequences,
        heads_per_group=heads,
        compute=work.layout.attention_compute,
        weight_bits=work.layout.kv_B * 8.0,
        vector_flops=SOFTMAX_FLOPS * pairs,
    )


def entries_held(kind: CompressedAttention, context: Number) -> tuple[Number, Number]:
    """Raw and compressed entries that the cache keeps of a context."""
    raw = clip(context, 0.0, kind.window - 1.0)
    return raw, (floor(context / kind.ratio) if kind.ratio is not None else 0.0)
