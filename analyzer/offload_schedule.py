"""The zig-zag block schedule as one stream of events, shared by the engine and by the model.

Step i (token), unit j, micro-batch k. Within a unit all micro-batches pass before the next unit
begins, so one pass of weights serves the whole block. Loads for the next position are announced
one position ahead; what an event must wait for is the executor's affair, not the schedule's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple


class Event(NamedTuple):
    """One thing to do at (step i, unit j, micro-batch k)."""

    stage: str
    i: int
    j: int
    k: int


def schedule(steps: int, units: int, batches: int) -> Iterator[Event]:
    """Yield every event in issue order; an event comes after all that it can depend on."""
    for k in range(batches):
        yield Event("load_weight", 0, 0, k)
    yield Event("load_hidden", 0, 0, 0)
    for i in range(steps):
        for j in range(units):
            for k in range(batches):
                yield from _position(i, j, k, steps, units, batches)


def _position(i: int, j: int, k: int, steps: int, units: int, batches: int) -> Iterator[Event]:
    unit_i, unit_j = (i, j + 1) if j + 1 < units else (i + 1, 0)
    next_i, next_j, next_k = (i, j, k + 1) if k + 1 < batches else (unit_i, unit_j, 0)
    if unit_i < steps:
        yield Event("load_weight", unit_i, unit_j, k)
    if 0 < next_i < steps and next_j < units - 1:
        yield Event("load_cache", next_i, next_j, next_k)
    yield Event("compute", i, j, k)
    if j < units - 1:  # the last unit has no attention behind it
        yield Event("store_cache", i, j, k)
        yield Event("attend", i, j, k)
        yield Event("store_hidden", i, j, k)
    if next_i < steps:
        yield Event("load_hidden", next_i, next_j, next_k)
