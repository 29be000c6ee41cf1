"""A step time from tables: made once from any exact step time, then looked up a million times.

A mixed step is built from three tables, each interpolated bilinearly:
    decoding(batch, mean context) + prefill(tokens, mean keys per token) - shared(tokens, batch)
where `shared` is what a mixed step saves over the two alone (weights read once, overheads paid
once). That is exact between the grid points' interpolation for every step time whose attention
parts add up and whose linear layers depend on the number of tokens only.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.serving.timers import StepLoad

Floats = NDArray[np.float64]


class StepArrays(NamedTuple):
    """Many steps at once, as columns of the sums in StepLoad."""

    prefill_tokens: Floats
    prefill_pairs: Floats
    prefill_context: Floats
    decode_batch: Floats
    decode_tokens: Floats
    decode_context: Floats


ExactSteps = Callable[[StepArrays], Floats]
"""Seconds of each step. Columns may be 0 where a step has no prefill or no decoding."""


class Grid:
    """A table over two axes with bilinear interpolation; outside, the border's slope goes on."""

    def __init__(self, rows: Floats, columns: Floats, values: Floats) -> None:
        if not np.all(np.isfinite(values)):
            raise ConfigError("a step time is not a finite number; the table cannot be built")
        self._rows: list[float] = rows.tolist()
        self._columns: list[float] = columns.tolist()
        self._values: list[list[float]] = values.tolist()
        self._array = values

    def at(self, row: float, column: float) -> float:
        """Value at one point."""
        rows, columns = self._rows, self._columns
        i = min(max(bisect.bisect_right(rows, row) - 1, 0), len(rows) - 2)
        j = min(max(bisect.bisect_right(columns, column) - 1, 0), len(columns) - 2)
        u = (row - rows[i]) / (rows[i + 1] - rows[i])
        v = (column - columns[j]) / (columns[j + 1] - columns[j])
        low, high = self._values[i], self._values[i + 1]
        left = low[j] + (high[j] - low[j]) * u
        right = low[j + 1] + (high[j + 1] - low[j + 1]) * u
        return left + (right - left) * v

    def along(self, row: float, columns: Floats) -> Floats:
        """Values at one row and many columns."""
        rows = self._rows
        i = min(max(bisect.bisect_right(rows, row) - 1, 0), len(rows) - 2)
        u = (row - rows[i]) / (rows[i + 1] - rows[i])
        line = self._array[i] + (self._array[i + 1] - self._array[i]) * u
        axis = np.asarray(self._columns)
        j = np.clip(np.searchsorted(axis, columns, side="right") - 1, 0, len(axis) - 2)
        v = (columns - axis[j]) / (axis[j + 1] - axis[j])
        return np.asarray(line[j] + (line[j + 1] - line[j]) * v)


class TableTimer:
    """A StepTimer made of three grids; build it with `TableTimer.build`."""

    def __init__(self, decoding: Grid, prefill: Grid, shared: Grid) -> None:
        self._decoding = decoding
        self._prefill = prefill
        self._shared = shared

    @classmethod
    def build(
        cls,
        exact: ExactSteps,
        *,
        max_batch: int,
        max_tokens: int,
        max_context: int,
        queries: int = 1,
        also_batches: tuple[int, ...] = (),
    ) -> TableTimer:
        """Evaluate `exact` on the grids.

        `max_batch` sequences decode with `queries` tokens each, a step has at most `max_tokens`,
        a sequence at most `max_context` keys. `also_batches` are grid points wanted besides, such
        as the sizes of CUDA graphs.
        """
        batches = _axis(1, max(max_batch, 2), 1.12, also_batches)
        tokens = _axis(1, max(max_tokens, 2), 1.08, also_batches)
        contexts = _axis(1, max(max_context, 2), 1.5)
        few_batches = _axis(1, max(max_batch, 2), 1.5)
        few_tokens = _axis(1, max(max_tokens, 2), 1.25)
        decoding = _table(exact, batches, contexts, queries, _decode_step)
        prefill = _table(exact, tokens, contexts, queries, _prefill_step)
        shared = _table(exact, few_tokens, few_batches, queries, _saved)
        return cls(
            Grid(batches, contexts, decoding),
            Grid(tokens, contexts, prefill),
            Grid(few_tokens, few_batches, shared),
        )

    def step_time_s(self, load: StepLoad) -> float:
        """Seconds of one step."""
        batch = load.decode_batch
        if load.prefill_tokens == 0:
            padded = self._padded(load)
            return self._decoding.at(padded, load.decode_context / max(batch, 1))
        tokens = load.prefill_tokens + load.padding_tokens
        alone = self._prefill.at(tokens, load.prefill_pairs / load.prefill_tokens)
        if batch == 0:
            return alone
        decode = self._decoding.at(batch, load.decode_context / batch)
        return alone + decode - self._shared.at(tokens, batch)

    def decode_times_s(self, load: StepLoad, contexts: Floats) -> Floats:
        """Seconds of decoding steps that differ in their context."""
        return self._decoding.along(self._padded(load), contexts / max(load.decode_batch, 1))

    @staticmethod
    def _padded(load: StepLoad) -> float:
        """The batch, with a graph's padding counted as sequences."""
        if load.padding_tokens == 0:
            return load.decode_batch
        return load.decode_batch * (1.0 + load.padding_tokens / load.decode_tokens)


def _axis(low: int, high: int, factor: float, also: tuple[int, ...] = ()) -> Floats:
    """Whole numbers from `low` to `high`, each at most `factor` times the one before (or +1)."""
    points = {low, high, *(point for point in also if low <= point <= high)}
    point = low
    while point < high:
        points.add(point)
        point = max(point + 1, int(point * factor))
    return np.asarray(sorted(points), dtype=np.float64)


def _table(
    exact: ExactSteps,
    rows: Floats,
    columns: Floats,
    queries: int,
    step: Callable[[ExactSteps, Floats, Floats, int], Floats],
) -> Floats:
    first, second = np.meshgrid(rows, columns, indexing="ij")
    return step(exact, first.ravel(), second.ravel(), queries).reshape(first.shape)


def _decode_step(exact: ExactSteps, batch: Floats, context: Floats, queries: int) -> Floats:
    none = np.zeros_like(batch)
    return exact(StepArrays(none, none, none, batch, batch * queries, batch * context))


def _prefill_step(exact: ExactSteps, tokens: Floats, keys: Floats, queries: int) -> Floats:
    """One chunk whose tokens attend to `keys` each on average (several short ones if fewer)."""
    none = np.zeros_like(tokens)
    past = np.maximum(keys - (tokens + 1.0) / 2.0, 0.0)
    return exact(StepArrays(tokens, tokens * keys, past + tokens, none, none, none))


def _saved(exact: ExactSteps, tokens: Floats, batch: Floats, queries: int) -> Floats:
    context = 256.0
    keys = (tokens + 1.0) / 2.0
    none = np.zeros_like(tokens)
    alone = _prefill_step(exact, tokens, keys, queries)
    decode = _decode_step(exact, batch, none + context, queries)
    both = exact(StepArrays(tokens, tokens * keys, tokens, batch, batch * queries, batch * context))
    return alone + decode - both
