"""Counting: what a step of a model costs one device, before any machine is named.

In: a `Model`, a `Step` and a `Layout`, any field of the latter two an array. Out: an `OpTable` with
exact FLOPs, bytes, communication and launches. One file per kind of layer; `layers.COUNTERS` says
which serves which. `footprint` says what stays in memory, `steps` builds the usual steps.
"""

from __future__ import annotations

from analyzer.counting import embedding
from analyzer.counting.alike import layers_of
from analyzer.counting.context import Layout, Segment, Step
from analyzer.counting.layers import count_layer
from analyzer.counting.work import survey
from analyzer.model import Model
from analyzer.optable import Op, OpTable, stack

__all__ = ["Layout", "Segment", "Step", "count"]


def count(
    model: Model,
    step: Step,
    layout: Layout,
    layers: slice | None = None,
    with_embedding: bool = True,
    with_head: bool = True,
) -> OpTable:
    """Everything that one device does in one step, like layers once with their number as `repeat`.

    A pipeline stage is the `layers` it holds; the first has the embedding, the last the head.
    """
    work = survey(model, step, layout)
    ops: list[Op] = []
    repeats: list[float] = []
    if with_embedding:
        ops += embedding.enter(work)
    repeats += [1.0] * len(ops)
    for layer, times in layers_of(model, layers):
        ops += count_layer(work, layer)
        repeats += [float(times)] * (len(ops) - len(repeats))
    if with_head:
        ops += embedding.leave(work)
        repeats += [1.0] * (len(ops) - len(repeats))
    if layout.kernels != 1.0:
        ops = [op._replace(launches=op.launches * layout.kernels) for op in ops]
    return stack(ops, repeats)
