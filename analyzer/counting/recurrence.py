"""What recurrent mixers share: chunked evaluation of many tokens, step by step of one, states.

One new token updates the state directly (vector work). More are evaluated in chunks: pairs of
tokens within a chunk by matrix multiplications, chunks among each other through the state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from analyzer.counting.context import Segment
from analyzer.counting.elementwise import NORM, Cost, launches, passes
from analyzer.counting.numeric import floor, pick
from analyzer.counting.work import Work
from analyzer.optable import Number, Op

CONV = Cost(flops=0.0, passes=2.0, launches=1.0, eager_passes=6.0, eager_launches=3.0)


class Scan(NamedTuple):
    """A recurrence: work of one sequence on one rank and what it keeps."""

    chunked: Callable[[Number], Number]
    """FLOPs on matrix units, of that many tokens at once."""
    per_token: Number
    """Vector operations of one token, one at a time."""
    chunked_vector: Number
    """Vector operations of one token within a chunk."""
    state: Number
    """Values of state per sequence."""
    moved: Number
    """Values read and written per token."""
    heads: Number
    width: Number
    """Length of the state's inner dimension."""


def chunk_pairs(tokens: Number, chunk: float) -> Number:
    """Causal pairs of tokens within chunks of `chunk`."""
    whole = floor(tokens / chunk)
    rest = tokens - whole * chunk
    return whole * (chunk * (chunk + 1.0) / 2.0) + rest * (rest + 1.0) / 2.0


def chunk_cubes(tokens: Number, chunk: float) -> Number:
    """Sum of the cubes of the chunks' lengths."""
    whole = floor(tokens / chunk)
    rest = tokens - whole * chunk
    return whole * chunk**3 + rest * rest * rest


def state_trips(segment: Segment) -> Number:
    """How often states move: written once, read before if there is a past."""
    return segment.sequences * pick(segment.past > 0, 2.0, 1.0)


def scans(work: Work, name: str, scan: Scan) -> list[Op]:
    """The recurrence over every segment."""
    return [_scan(work, name, scan, segment) for segment in work.segments]


def _scan(work: Work, name: str, scan: Scan, segment: Segment) -> Op:
    single = segment.new <= 1.0
    tokens = segment.sequences * segment.new
    return Op(
        name=f"{name}.scan",
        kind="scan",
        flops=pick(single, 0.0, segment.sequences * scan.chunked(segment.new)),
        vector_flops=tokens * pick(single, scan.per_token, scan.chunked_vector),
        act_B=tokens * scan.moved * work.act_B,
        kv_B=state_trips(segment) * scan.state * work.layout.state_B,
        m=segment.new,
        n=scan.width,
        k=scan.width,
        groups=segment.sequences * scan.heads,
        launches=pick(work.fused, pick(single, 1.0, 4.0), 12.0),
        compute=work.layout.attention_compute,
    )


def convolution(
    work: Work, name: str, channels: Number, taps: float, bias: bool, weights: Number = 0.0
) -> Op:
    """Causal depthwise convolution with its window of past inputs; `weights` are others' here."""
    window = sum(state_trips(segment) for segment in work.segments)
    values = work.tokens * channels
    return Op(
        name=f"{name}.conv",
        kind="elementwise",
        flops=2.0 * taps * values,
        weight_B=(channels * (taps + bias) + weights) * work.wide_B,
        act_B=values * passes(work, CONV),
        kv_B=window * channels * taps * work.act_B,
        launches=launches(work, CONV),
    )


def gate(work: Work, name: str, values: Number, weights: Number = 0.0) -> Op:
    """Normalise what a recurrence yields and multiply it with its gate."""
    return Op(
        name=f"{name}.gate",
        kind="elementwise",
        flops=(NORM.flops + 5.0) * work.tokens * values,
        weight_B=weights * work.wide_B,
        act_B=work.tokens * values * (passes(work, NORM) + 3.0 * work.act_B),
        launches=launches(work, NORM) + pick(work.fused, 0.0, 2.0),
    )
