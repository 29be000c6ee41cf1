"""State-space mixers: Mamba-1 (one state per channel) and Mamba-2 (heads, chunked duality)."""

from __future__ import annotations

from analyzer.counting.communication import collective
from analyzer.counting.linear import linear
from analyzer.counting.numeric import ceil
from analyzer.counting.recurrence import Scan, chunk_pairs, convolution, gate, scans
from analyzer.counting.work import Work
from analyzer.model import Mamba1, Mamba2
from analyzer.optable import Number, Op

SSD_CHUNK = 256.0
"""Tokens per chunk of Mamba-2, the released models' and kernels' own."""


def mamba1(work: Work, kind: Mamba1) -> list[Op]:
    """Projections, convolution and the selective scan, which is vector work throughout.

    Per channel and state: dt·A, exponential, decay, dt·x·B, add, multiply-add with C. The step
    sizes need all channels, so their small projection is summed over the ranks.
    """
    inner, state = kind.inner / work.local, float(kind.state)
    hidden, rank = float(work.hidden), float(kind.dt_rank)
    small = rank + 2.0 * state
    bias = 2.0 * inner if kind.proj_bias else 0.0
    per_token = inner * (7.0 * state + 8.0)
    scan = Scan(
        chunked=lambda tokens: 0.0 * tokens,
        per_token=per_token,
        chunked_vector=per_token,
        state=inner * state,
        moved=4.0 * inner + 2.0 * state,
        heads=inner,
        width=state,
    )
    weights = inner * (state + 1.0) + (small if kind.inner_norms else 0.0)
    summed_B = work.tokens * small * work.act_B
    return [
        linear(work, "mamba.in", hidden, 2.0 * inner, bias=bias),
        convolution(work, "mamba", inner, float(kind.conv), kind.conv_bias, weights),
        linear(work, "mamba.x", inner, small),
        *collective("mamba.all_reduce", "all_reduce", summed_B, work.local, work.local > 1),
        linear(work, "mamba.dt", rank, inner, bias=inner),
        *scans(work, "mamba", scan),
        linear(work, "mamba.out", inner, hidden, bias=hidden if kind.proj_bias else 0.0),
    ]


def mamba2(work: Work, kind: Mamba2) -> list[Op]:
    """Projections, convolution and the scan in its chunked dual form."""
    heads = ceil(kind.heads / work.local)
    groups = ceil(kind.groups / work.local)
    inner, hidden = heads * kind.head_dim, float(work.hidden)
    mixed = inner + 2.0 * groups * kind.state
    outputs = inner + mixed + heads
    return [
        linear(work, "mamba2.in", hidden, outputs, bias=outputs if kind.proj_bias else 0.0),
        convolution(work, "mamba2", mixed, float(kind.conv), kind.conv_bias, 3.0 * heads),
        *scans(work, "mamba2", _duality(kind, heads, groups)),
        gate(work, "mamba2", inner, inner if kind.gated_norm else 0.0),
        linear(work, "mamba2.out", inner, hidden, bias=hidden if kind.proj_bias else 0.0),
    ]


def _duality(kind: Mamba2, heads: Number, groups: Number) -> Scan:
    """Within a chunk C·Bᵀ per group and its product with x per head; across chunks, states."""
    state, width = float(kind.state), float(kind.head_dim)

    def chunked(tokens: Number) -> Number:
        pairs = chunk_pairs(tokens, SSD_CHUNK)
        within = 2.0 * pairs * (groups * state + heads * width)
        return within + 4.0 * tokens * heads * state * width

    return Scan(
        chunked=chunked,
        per_token=heads * width * (5.0 * state + 2.0),
        chunked_vector=heads * (SSD_CHUNK / 2.0 + 2.0 * width),
        state=heads * state * width,
        moved=heads * (2.0 * width + 1.0) + 2.0 * groups * state,
        heads=heads,
        width=state,
    )
