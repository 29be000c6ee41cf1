"""What one device has to do in a step, worked out once and read by every kind of layer."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from analyzer.counting.context import Layout, Segment, Step
from analyzer.counting.numeric import both, ceil, larger, pick
from analyzer.model import Model
from analyzer.optable import COMPUTE, Number

_COMPUTE_BYTES = {
    "fp32": 4.0,
    "tf32": 4.0,
    "fp8": 1.0,
    "fp8-block": 1.0,
    "int8": 1.0,
    "fp6": 0.75,
    "fp4": 0.5,
    "int4": 0.5,
}
COMPUTE_BYTES = np.array([_COMPUTE_BYTES.get(name, 2.0) for name in COMPUTE])
"""Bytes per value of each arithmetic format, by index in COMPUTE."""


def compute_B(compute: Number) -> Number:
    """Bytes per value of an arithmetic format, given as its index in COMPUTE."""
    if isinstance(compute, np.ndarray):
        return COMPUTE_BYTES[compute.astype(np.intp)]
    return float(COMPUTE_BYTES[int(compute)])


class Work(NamedTuple):
    """The step as one device sees it."""

    model: Model
    layout: Layout
    segments: tuple[Segment, ...]
    """Segments with the sequences that this device's attention holds."""
    tokens: Number
    """Tokens of those segments."""
    all_tokens: Number
    """Tokens of the whole replica."""
    logit_rows: Number
    hidden: int
    local: Number
    """Ranks that share everything but the routed experts: tp/attention_dp."""
    norm_tokens: Number
    """Tokens whose residual stream this device holds."""
    act_B: Number
    weight_B: Number
    input_B: Number
    """Bytes per value of what linear layers read: narrowed where activations are quantised."""
    wide_B: Number
    """Bytes per value of what is never quantised: norms, biases, routers."""
    reduced: Any
    """Where partial sums are all-reduced."""
    scattered: Any
    """Where they are reduce-scattered instead, and gathered before the next layer."""
    fused: Any


def survey(model: Model, step: Step, layout: Layout) -> Work:
    """Share a step out to one device (the busiest, where the shares differ)."""
    groups = layout.attention_dp
    segments = tuple(_share(segment, groups) for segment in step.segments)
    tokens = sum(segment.sequences * segment.new for segment in segments)
    local = layout.tp / groups
    shared = local > 1
    parallel = layout.sequence_parallel
    scattered = both(shared, parallel)
    return Work(
        model=model,
        layout=layout,
        segments=segments,
        tokens=tokens,
        all_tokens=_float(step.tokens),
        logit_rows=sum(segment.sequences * segment.logits for segment in segments),
        hidden=model.hidden,
        local=local,
        norm_tokens=tokens / pick(parallel, local, 1.0),
        act_B=layout.act_B,
        weight_B=layout.weight_B,
        input_B=narrowed_B(layout.act_B, layout.compute, layout.quantise_activations),
        wide_B=larger(layout.embedding_B, layout.act_B),
        reduced=both(shared, ~parallel if isinstance(parallel, np.ndarray) else not parallel),
        scattered=scattered,
        fused=layout.fused,
    )


def narrowed_B(act_B: Number, compute: Number, quantised: Number) -> Number:
    """Bytes per activation as a linear layer reads it."""
    if not isinstance(quantised, np.ndarray) and not quantised:
        return act_B
    narrow = compute_B(compute)
    return pick(both(quantised, narrow < act_B), narrow, act_B)


def _share(segment: Segment, groups: Number) -> Segment:
    """A segment's share of one of `groups` groups of ranks; whole sequences stay together."""
    sequences, new, past, pairs, *rest = map(_float, segment)
    if isinstance(groups, np.ndarray) or groups != 1:
        sequences = pick(groups > 1, ceil(sequences / groups), sequences)
    return Segment(sequences, new, past, pairs, *rest)


def _float(value: Number | None) -> Number | None:
    if value is None or isinstance(value, float):
        return value
    return np.asarray(value, dtype=np.float64) if isinstance(value, np.ndarray) else float(value)
