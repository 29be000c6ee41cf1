"""The indexer of sparse attention: cheap scores over all keys choose the few that are read."""

from __future__ import annotations

from analyzer.counting.linear import linear
from analyzer.counting.work import Work
from analyzer.model import Indexer
from analyzer.optable import Number, Op

_SCORE_B = 4.0


def index(work: Work, indexer: Indexer, query_width: Number) -> list[Op]:
    """Projections, scores over every cached key and the choice; whole on every rank.

    `query_width` is the width that index queries are projected from.
    """
    if indexer.reused:
        return []
    heads, dim = float(indexer.heads), float(indexer.head_dim)
    hidden = float(work.hidden)
    weights = heads if indexer.head_weights else 0.0
    normed = indexer.rms_norms or indexer.key_norm
    ops = [
        linear(work, "indexer.query", query_width, heads * dim),
        linear(
            work,
            "indexer.key",
            hidden,
            dim + weights,
            bias=2.0 * dim if normed else 0.0,
            pieces=2.0 if weights else 1.0,
        ),
    ]
    ops += [_score(work, indexer, i) for i in range(len(work.segments))]
    return ops


def _score(work: Work, indexer: Indexer, position: int) -> Op:
    segment = work.segments[position]
    pairs = segment.past * segment.new + segment.causal
    heads, dim = float(indexer.heads), float(indexer.head_dim)
    read = segment.sequences * (segment.keys + segment.new) * dim * work.layout.kv_B
    chosen = segment.sequences * pairs * _SCORE_B
    return Op(
        name="indexer.core",
        kind="attention",
        flops=2.0 * segment.sequences * pairs * heads * dim,
        act_B=segment.sequences * segment.new * heads * dim * work.act_B + 2.0 * chosen,
        kv_B=read,
        m=segment.new,
        n=segment.keys,
        k=dim,
        groups=segment.sequences,
        heads_per_group=heads,
        launches=2.0,
        compute=work.layout.attention_compute,
        weight_bits=work.layout.kv_B * 8.0,
        vector_flops=segment.sequences * pairs * (3.0 * heads + 1.0),
    )
