"""Counting: what a step of a model costs one device, before any machine is named.

In: a `Model`, a `Step` and a `Layout`, any field of the latter two an array. Out: an `OpTable` with
exact FLOPs, bytes, communication and launches. One file per kind of layer; `layers.COUNTERS` says
which serves which. `footprint` says what stays in memory, `steps` builds the usual steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from analyzer.counting import embedding
from analyzer.counting.context import Layout, Segment, Step
from analyzer.counting.layers import count_layer
from analyzer.counting.work import survey
from analyzer.model import Layer, Model
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
    for layer, times in _alike(model.layers if layers is None else model.layers[layers]):
        ops += count_layer(work, layer)
        repeats += [float(times)] * (len(ops) - len(repeats))
    if with_head:
        ops += embedding.leave(work)
        repeats += [1.0] * (len(ops) - len(repeats))
    return stack(ops, repeats)


def _alike(layers: Iterable[Layer]) -> list[tuple[Layer, int]]:
    """Distinct layers and how often each occurs; identity first, since hashing a layer is slow."""
    layers = list(layers)
    by_identity = {id(layer): layer for layer in layers}
    times = Counter(map(id, layers))
    groups: dict[Layer, int] = {}
    for key, layer in by_identity.items():
        groups[layer] = groups.get(layer, 0) + times[key]
    return list(groups.items())
