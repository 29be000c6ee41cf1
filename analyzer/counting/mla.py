"""Multi-head latent attention: one latent per token in the cache, the same on every rank.

Expanded, the latents of all keys are projected to keys and values first (prefill). Absorbed, the
projection moves to queries and results and attention runs on the latents themselves: more FLOPs
per pair, none per cached key (decode). Servers take the absorbed form for a few new tokens on top
of a cache, and throughout where an indexer picks the keys.
"""

from __future__ import annotations

from typing import Any

from analyzer.counting.attention import SOFTMAX_FLOPS, keys_read, visible
from analyzer.counting.context import Segment
from analyzer.counting.elementwise import NORM, ROPE, launches, passes
from analyzer.counting.indexer import index
from analyzer.counting.linear import linear
from analyzer.counting.numeric import both, ceil, pick, smaller
from analyzer.counting.work import Work
from analyzer.model import MLA
from analyzer.optable import Number, Op

ABSORBED_QUERIES = 128.0
"""Most new tokens per sequence that run absorbed; DeepSeek's FLOPs break even at about 170."""


def mla(work: Work, kind: MLA) -> list[Op]:
    """Down- and up-projections, rotation and cache write, attention, output projection."""
    heads = ceil(kind.heads / work.local)
    ops = _project(work, kind, heads)
    if kind.indexer is not None:
        latent = kind.q_lora_rank if kind.indexer.from_latent else None
        ops += index(work, kind.indexer, float(latent or work.hidden))
    forms = [_absorbed(work, kind, segment) for segment in work.segments]
    ops += [_prepare(work, kind, heads), _expand(work, kind, heads, forms)]
    for segment, absorbed in zip(work.segments, forms, strict=True):
        ops.append(_attend(work, kind, heads, segment, absorbed))
    hidden = float(work.hidden)
    bias = hidden if kind.qkv_bias else 0.0
    return [*ops, linear(work, "mla.out", heads * kind.v_dim, hidden, bias=bias)]


def _absorbed(work: Work, kind: MLA, segment: Segment) -> Any:
    few = both(segment.new <= ABSORBED_QUERIES, segment.past > 0)
    return both(work.layout.absorb_mla, True if kind.indexer is not None else few)


def _project(work: Work, kind: MLA, heads: Number) -> list[Op]:
    """Query and key-value latents in one multiplication; they are whole on every rank."""
    latent = float(kind.kv_lora_rank + kind.rope_dim)
    queries = heads * (kind.nope_dim + kind.rope_dim)
    gate = heads * kind.v_dim if kind.output_gate else 0.0
    pieces = 3.0 if kind.output_gate else 2.0
    hidden = float(work.hidden)
    rank = kind.q_lora_rank
    if rank is None:
        bias = latent if kind.qkv_bias else 0.0
        return [linear(work, "mla.down", hidden, queries + latent + gate, bias=bias, pieces=pieces)]
    bias = rank + latent if kind.qkv_bias else 0.0
    return [
        linear(work, "mla.down", hidden, rank + latent + gate, bias=bias, pieces=pieces),
        linear(work, "mla.query_up", float(rank), queries),
    ]


def _prepare(work: Work, kind: MLA, heads: Number) -> Op:
    """Norms of the latents, RoPE, cache write, output gate, as one row."""
    normed = float((kind.q_lora_rank or 0) + kind.kv_lora_rank)
    norms = 2.0 if kind.q_lora_rank else 1.0
    rotated = (heads + 1.0) * kind.rope_dim if kind.rope else 0.0
    gated = heads * kind.v_dim if kind.output_gate else 0.0
    latent = float(kind.kv_lora_rank + kind.rope_dim)
    cached = sum(s.sequences * s.past for s in work.segments)
    copied = 2.0 * work.layout.cache_copies * cached
    per_token = (
        normed * passes(work, NORM)
        + rotated * passes(work, ROPE)
        + (latent + 3.0 * gated) * work.act_B
    )
    return Op(
        name="mla.prepare",
        kind="elementwise",
        flops=work.tokens * (normed * NORM.flops + rotated * ROPE.flops + 5.0 * gated),
        weight_B=normed * work.wide_B,
        act_B=work.tokens * per_token,
        kv_B=latent * work.layout.kv_B * (work.tokens + copied),
        launches=norms * launches(work, NORM)
        + (launches(work, ROPE) if kind.rope else 0.0)
        + (pick(work.fused, 1.0, 2.0) if kind.output_gate else 0.0)
        + 1.0,
    )


def _expand(work: Work, kind: MLA, heads: Number, forms: list[Any]) -> Op:
    """The projection of latents to keys and values, or of queries and results around them."""
    outputs = heads * (kind.nope_dim + kind.v_dim)
    rank = float(kind.kv_lora_rank)
    rows: Number = 0.0
    act_B: Number = 0.0
    kv_B: Number = 0.0
    for segment, absorbed in zip(work.segments, forms, strict=True):
        expanded = pick(absorbed, 0.0, segment.sequences * segment.keys)
        queries = pick(absorbed, segment.sequences * segment.new, 0.0)
        rows = rows + expanded + queries
        act_B = act_B + (queries * (outputs + 2.0 * heads * rank) + expanded * outputs) * work.act_B
        latents = keys_read(segment, segment.keys) * (rank + kind.rope_dim)
        kv_B = kv_B + pick(absorbed, 0.0, latents) * work.layout.kv_B
    op = linear(work, "mla.kv_up", rank, outputs, rows=rows)
    return op._replace(act_B=act_B, kv_B=kv_B)


def _attend(work: Work, kind: MLA, heads: Number, segment: Segment, absorbed: Any) -> Op:
    """Scores, softmax and weighted values of one segment."""
    limit = kind.indexer.top_k if kind.indexer is not None else None
    pairs, reach = visible(segment, limit)
    if limit is not None:
        reach = smaller(segment.keys, pairs)
    rank, rope = float(kind.kv_lora_rank), float(kind.rope_dim)
    wide = float(kind.nope_dim + rope + kind.v_dim)
    sequences, new = segment.sequences, segment.new
    per_pair = pick(absorbed, 2.0 * rank + rope, wide)
    keys_B = pick(absorbed, 0.0, sequences * segment.keys * heads * wide * work.act_B)
    cache_B = keys_read(segment, reach) * (rank + rope) * work.layout.kv_B
    return Op(
        name="mla.core",
        kind="attention",
        flops=2.0 * sequences * heads * pairs * per_pair,
        act_B=sequences * heads * new * per_pair * work.act_B + keys_B,
        kv_B=pick(absorbed, cache_B, 0.0),
        m=new,
        n=reach,
        k=pick(absorbed, rank + rope, float(kind.nope_dim + rope)),
        groups=sequences * pick(absorbed, 1.0, heads),
        heads_per_group=pick(absorbed, heads, 1.0),
        compute=work.layout.attention_compute,
        weight_bits=work.layout.kv_B * 8.0,
        vector_flops=SOFTMAX_FLOPS * sequences * heads * pairs,
    )
