"""Many scenarios of many models as one flat table, so that a fit times them all in one call.

A fit evaluates the same counted work thousands of times with other rates. Tables of different
models have different operators, so they cannot be stacked; but timing is elementwise per operator,
so they can be laid end to end and summed by step.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.optable import COLLECTIVE_INDEX, COLUMNS, KIND_INDEX, OpTable
from analyzer.phases import SHARES, CountedStep

Array = NDArray[np.float64]


class FlatTable(NamedTuple):
    """Operators of all steps end to end; `starts` says where each step begins."""

    kinds: Any
    collectives: Any
    columns: dict[str, Array]
    starts: NDArray[np.intp]
    order: NDArray[np.intp]
    """Position of each step of `shape` among `starts`."""
    shape: tuple[int, ...]

    def reduce(self, values: Array) -> Array:
        """Sum over the operators of each step."""
        if values.shape != self.kinds.shape:
            values = np.broadcast_to(values, self.kinds.shape)
        total: Array = np.add.reduceat(values, self.starts)[self.order].reshape(self.shape)
        return total


def flatten(tables: Sequence[OpTable], widths: Sequence[int], quadrature: bool) -> FlatTable:
    """Lay tables of `widths` scenarios each end to end; shape (points, Σ widths) or (Σ widths,)."""
    points = len(SHARES) if quadrature else 1
    blocks = [_block(table, width, points) for table, width in zip(tables, widths, strict=True)]
    columns = {name: np.concatenate([block[name] for block in blocks]) for name in COLUMNS}
    rows = [len(table.names) for table in tables]
    steps = [np.full(width * points, n) for width, n in zip(widths, rows, strict=True)]
    lengths = np.concatenate(steps)
    starts = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.intp)
    kinds = [
        _repeat(table.kinds, KIND_INDEX, width * points)
        for table, width in zip(tables, widths, strict=True)
    ]
    collectives = [
        _repeat(table.collectives, COLLECTIVE_INDEX, width * points)
        for table, width in zip(tables, widths, strict=True)
    ]
    total = sum(widths)
    shape = (points, total) if quadrature else (total,)
    return FlatTable(
        np.concatenate(kinds),
        np.concatenate(collectives),
        columns,
        starts,
        _order(widths, points),
        shape,
    )


def _block(table: OpTable, width: int, points: int) -> dict[str, Array]:
    """Columns with the operators innermost: step after step."""
    rows = len(table.names)
    full = (rows, points, width) if points > 1 else (rows, width)
    block = {}
    for name, column in table.columns.items():
        if column.ndim == 1:
            column = column.reshape(rows, *(1,) * (len(full) - 1))
        block[name] = np.broadcast_to(column, full).reshape(rows, -1).T.ravel()
    return block


def _repeat(names: tuple[str, ...], index: dict[str, int], times: int) -> NDArray[np.intp]:
    return np.tile(np.array([index[name] for name in names], dtype=np.intp), times)


def _order(widths: Sequence[int], points: int) -> NDArray[np.intp]:
    """Where step (point, scenario) lies, given that tables come one after the other."""
    offsets = np.cumsum([0, *(width * points for width in widths)])
    per_table = [
        offset + np.arange(width * points).reshape(points, width)
        for offset, width in zip(offsets, widths, strict=False)
    ]
    return np.concatenate(per_table, axis=1).ravel()


def merge(steps: Sequence[CountedStep], widths: Sequence[int]) -> CountedStep:
    """One counted step for all scenarios of several; they must be built alike."""
    first = steps[0]
    tables = tuple(
        flatten([step.tables[stage] for step in steps], widths, first.quadrature)
        for stage in range(len(first.tables))
    )

    def joined(name: str) -> Array:
        return _join([getattr(step, name) for step in steps], widths)

    return first._replace(
        tables=tables,
        times=joined("times"),
        sequences=joined("sequences"),
        pieces=joined("pieces"),
        hop_B=joined("hop_B"),
        hop_stride=joined("hop_stride"),
        hops=joined("hops"),
        saved=joined("saved"),
        unfed=joined("unfed"),
        hidden=joined("hidden"),
    )


def _join(values: Sequence[Any], widths: Sequence[int]) -> Array:
    return np.concatenate(
        [
            np.broadcast_to(np.asarray(v, dtype=np.float64), (w,))
            for v, w in zip(values, widths, strict=True)
        ]
    )
