"""Softmax attention with its own keys and values: MHA, GQA, MQA, windowed, chunked, selected.

Pairs are counted exactly: a query sees its own key, the cached ones before it and, of those, only
as many as the window, the block or the indexer's choice leaves. Keys and values are read once per
sequence and KV head; beams of one prompt read what they share once.
"""

from __future__ import annotations

from analyzer.counting.context import Layout, Segment
from analyzer.counting.elementwise import NORM, ROPE, launches, passes
from analyzer.counting.indexer import index
from analyzer.counting.linear import linear
from analyzer.counting.numeric import both, ceil, floor, larger, negate, pick, smaller
from analyzer.counting.work import Work
from analyzer.model import Attention
from analyzer.optable import Number, Op

SOFTMAX_FLOPS = 5.0
"""Vector operations per query-key pair and head: scale, maximum, subtract, exponential, sum."""

SCORE_B = 4.0
SCORE_PASSES = 4.0
"""Scores that go through memory are written, read and written by the softmax, and read, in fp32."""


class Shape:
    """Heads and widths of one attention layer on one rank."""

    __slots__ = ("heads", "keys", "kv_heads", "queries", "v_dim", "values")

    def __init__(self, work: Work, attention: Attention) -> None:
        self.v_dim = attention.v_head_dim or attention.head_dim
        self.heads = ceil(attention.heads / work.local)
        self.kv_heads = ceil(attention.kv_heads / work.local)
        self.queries = self.heads * attention.head_dim
        self.keys = self.kv_heads * attention.head_dim
        self.values = self.kv_heads * self.v_dim


def attention(work: Work, kind: Attention) -> list[Op]:
    """Projections, rotation and cache write, scores and values, output projection."""
    shape = Shape(work, kind)
    prefix = "attention" if kind.window is None else "local_attention"
    gate = {"none": 0.0, "head": shape.heads, "full": shape.heads * shape.v_dim}[kind.output_gate]
    ops = [_project(work, kind, shape, gate, prefix)]
    if kind.indexer is not None:
        ops += index(work, kind.indexer, float(kind.input_width or work.hidden))
    ops.append(_prepare(work, kind, shape, gate, prefix))
    ops += [_attend(work, kind, shape, segment, prefix) for segment in work.segments]
    if not work.layout.flash:
        ops += [_scores(shape, segment, prefix) for segment in work.segments]
    width = shape.heads * shape.v_dim
    hidden = float(work.hidden)
    ops.append(linear(work, f"{prefix}.out", width, hidden, bias=hidden if kind.o_bias else 0.0))
    return ops


def _project(work: Work, kind: Attention, shape: Shape, gate: Number, prefix: str) -> Op:
    """Queries, keys, values and gates in one multiplication."""
    queries = shape.queries + gate
    keys = 0.0 if kind.shares_kv else shape.keys
    values = 0.0 if kind.shares_kv or kind.key_is_value else shape.values
    pieces = 1.0 + (not kind.shares_kv) + (not kind.shares_kv and not kind.key_is_value)
    pieces = 1.0 if kind.merged else pieces
    bias = kind.q_bias * queries + kind.k_bias * keys + kind.v_bias * values
    inputs = float(kind.input_width or work.hidden)
    return linear(work, f"{prefix}.qkv", inputs, queries + keys + values, bias=bias, pieces=pieces)


def _prepare(work: Work, kind: Attention, shape: Shape, gate: Number, prefix: str) -> Op:
    """QK norm, RoPE, cache write and output gate, as one row."""
    keys = 0.0 if kind.shares_kv else shape.keys
    rotated = shape.queries + keys
    written = 0.0 if kind.shares_kv else shape.keys + shape.values
    per_token = flops = starts = 0.0
    for cost, wanted in ((ROPE, kind.rope), (NORM, kind.qk_norm != "none")):
        if wanted:
            per_token += rotated * passes(work, cost)
            flops += rotated * cost.flops
            starts += launches(work, cost)
            if cost is NORM and not kind.shares_kv:
                starts += pick(work.fused, 0.0, NORM.eager_launches)  # queries and keys apart
    if kind.output_gate != "none":
        per_token += 3.0 * shape.heads * shape.v_dim * work.act_B
        flops += 4.0 * gate + shape.heads * shape.v_dim
        starts += pick(work.fused, 1.0, 2.0)
    copies = work.layout.cache_copies
    cached = sum(s.sequences * held(window(kind, work.layout), s.past) for s in work.segments)
    return Op(
        name=f"{prefix}.prepare",
        kind="elementwise",
        flops=work.tokens * flops,
        weight_B=_small_weights(kind, shape) * work.wide_B,
        act_B=work.tokens * (per_token + written * work.act_B),
        kv_B=written * work.layout.kv_B * (work.tokens + 2.0 * copies * cached),
        launches=starts + (0.0 if kind.shares_kv else pick(work.fused, 1.0, 2.0)),
    )


def _small_weights(kind: Attention, shape: Shape) -> Number:
    """Parameters of the norms of queries and keys, and of the sinks."""
    keys = 0.0 if kind.shares_kv else 1.0
    norm = {
        "none": 0.0,
        "head": (1.0 + keys) * kind.head_dim,
        "full": shape.queries + keys * shape.keys,
    }[kind.qk_norm]
    return norm + (shape.heads if kind.sinks else 0.0)


def _attend(work: Work, kind: Attention, shape: Shape, segment: Segment, prefix: str) -> Op:
    """Scores, softmax and weighted values of one segment."""
    limit = kind.indexer.top_k if kind.indexer is not None else window(kind, work.layout)
    if kind.chunked and kind.window is not None:
        pairs, reach = block_pairs(segment, kind.window)
    else:
        pairs, reach = visible(segment, limit)
    if kind.indexer is not None:
        reach = smaller(segment.keys, pairs)
    per_key = shape.keys + shape.values
    heads = segment.sequences * shape.heads
    flops = 2.0 * heads * pairs * (kind.head_dim + shape.v_dim)
    ratio = shape.heads / shape.kv_heads
    own = work.layout.own_keys and kind.kv_heads > 1
    lone = both(segment.new <= 1.0, negate(ratio == work.layout.matrix_ratio))
    return Op(
        name=f"{prefix}.core",
        kind="attention",
        flops=flops,
        lone_flops=pick(lone, flops, 0.0),
        unsplit_flops=pick(both(lone, _unsplit(work, heads, reach)), flops * _crowding(work), 0.0),
        act_B=heads * segment.new * (kind.head_dim + shape.v_dim) * work.act_B,
        kv_B=per_key * keys_read(segment, reach) * work.layout.kv_B * (ratio if own else 1.0),
        m=segment.new,
        n=reach,
        k=float(kind.head_dim),
        groups=segment.sequences * (shape.heads if own else shape.kv_heads),
        heads_per_group=1.0 if own else ratio,
        compute=work.layout.attention_compute,
        weight_bits=work.layout.kv_B * 8.0,
        vector_flops=SOFTMAX_FLOPS * heads * pairs,
        launches=1.0 + pick(ratio > 1.0, work.layout.shared_kernels / work.layout.kernels, 0.0),
    )


_LONGEST_WHOLE = 8192.0
"""Keys beyond which such engines split a sequence in any case."""


def _unsplit(work: Work, queries: Number, keys: Number) -> Number:
    """Where there are so many queries that the engine gives each a processor of its own."""
    most = work.layout.split_heads
    return both(both(most > 0.0, queries > most), keys <= _LONGEST_WHOLE)


def _crowding(work: Work) -> float:
    """Room that a walk's scores take up, of that for the longest walk; 1 where no limit is known.

    A processor keeps scores for as many keys as the model reads at most, since one graph serves
    all lengths: the shorter that is, the more walks it has room for, and the less each one waits.
    """
    longest = float(work.model.positions or work.model.max_context or _LONGEST_WHOLE)
    return min(longest, _LONGEST_WHOLE) / _LONGEST_WHOLE


def _scores(shape: Shape, segment: Segment, prefix: str) -> Op:
    """Scores that go through memory: masked ones as well, since the multiplications are whole."""
    entries = segment.sequences * shape.heads * segment.new * segment.keys
    return Op(
        name=f"{prefix}.scores",
        kind="elementwise",
        act_B=entries * SCORE_PASSES * SCORE_B,
        launches=2.0,
    )


def visible(segment: Segment, limit: Number | None) -> tuple[Number, Number]:
    """Query-key pairs of one sequence, and keys that any of its queries sees.

    With a limit, a query sees the last `limit` keys up to its own. A tree's queries count as if all
    were at its mean depth, which is exact while the window ends within the cached keys or before.
    """
    new, past = segment.new, segment.past
    if limit is None:
        return past * new + segment.causal, segment.keys
    reach = smaller(segment.keys, limit + new - 1.0)
    if segment.pairs_within is not None:
        depth = segment.pairs_within / larger(new, 1e-30)
        return segment.pairs_within + new * clip(limit - depth, 0.0, past), reach
    growing = clip(limit - past, 0.0, new)
    pairs = growing * past + growing * (growing + 1.0) / 2.0 + (new - growing) * limit
    return pairs, reach


def block_pairs(segment: Segment, block: Number) -> tuple[Number, Number]:
    """The same where a query sees back to the start of its block of `block` positions only."""
    end, start = segment.keys, segment.past
    pairs = _pairs_before(end, block) - _pairs_before(start, block)
    pairs = pairs + segment.causal - segment.new * (segment.new + 1.0) / 2.0
    return pairs, end - block * floor(start / block)


def _pairs_before(position: Number, block: Number) -> Number:
    """Pairs of all queries before `position`, each seeing back to the start of its block."""
    whole = floor(position / block)
    rest = position - whole * block
    return whole * block * (block + 1.0) / 2.0 + rest * (rest + 1.0) / 2.0


def keys_read(segment: Segment, reach: Number) -> Number:
    """Keys that a segment reads in all: shared ones once per group of sequences."""
    out_of_reach = segment.keys - reach
    shared = larger(smaller(segment.shared_past, segment.past) - out_of_reach, 0.0)
    return segment.sequences * (reach - shared + shared / segment.sharing)


def window(kind: Attention, layout: Layout) -> int | None:
    """Keys that a query may reach back to, by the model and by what the engine makes of it."""
    return kind.window if layout.windowed or kind.chunked else None


def held(window: int | None, context: Number) -> Number:
    """Keys that the cache keeps of a context: the next token sees itself and window - 1 more."""
    return context if window is None else smaller(context, window - 1.0)


def clip(value: Number, low: Number, high: Number) -> Number:
    """The value, held between two bounds."""
    return smaller(larger(value, low), high)
