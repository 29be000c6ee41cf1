"""A step time from tables: made once from any exact step time, then looked up a million times.

A step is taken apart into what depends on the number of its tokens alone (linear layers, overheads)
and what its prompts' and its decoding sequences' attention adds:
    base(tokens) + prompts(prompt tokens, mean keys per token) + decoding(batch, mean context)
What the host adds (`Around`) is no table: the step takes no less than issuing it.
The first is a line, the others grids with bilinear interpolation. That is exact, up to the
interpolation, for every step time in which attention parts add up and the rest depends on the
number of tokens only.
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
MOST_POINTS = 40_000


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
        _require_finite(values)
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


class Line:
    """A table over one axis with linear interpolation; outside, the border's slope goes on."""

    def __init__(self, points: Floats, values: Floats) -> None:
        _require_finite(values)
        self._points: list[float] = points.tolist()
        self._values: list[float] = values.tolist()

    def at(self, point: float) -> float:
        """Value at one point."""
        points, values = self._points, self._values
        i = min(max(bisect.bisect_right(points, point) - 1, 0), len(points) - 2)
        share = (point - points[i]) / (points[i + 1] - points[i])
        return values[i] + (values[i + 1] - values[i]) * share


class Around(NamedTuple):
    """The host beside the device, in seconds."""

    step_s: float = 0.0
    sequence_s: float = 0.0
    """For every sequence that decodes, and once for prompts."""
    floor_s: float = 0.0
    """The least that a step takes: issuing it."""
    prompt_floor_s: float = 0.0
    """The same of a step with prompts and more than `graph_tokens` tokens."""
    graph_tokens: int = 0
    hidden: bool = False
    """The host works on the next step meanwhile; the longer of the two is the step."""


NO_HOST = Around()


class TableTimer:
    """A StepTimer made of tables; build it with `TableTimer.build`."""

    def __init__(self, base: Line, prompts: Grid, decoding: Grid, around: Around) -> None:
        self._base = base
        self._prompts = prompts
        self._decoding = decoding
        self._around = around

    @classmethod
    def build(
        cls,
        exact: ExactSteps,
        *,
        max_batch: int,
        max_tokens: int,
        max_context: int,
        queries: int = 1,
        around: Around = NO_HOST,
    ) -> TableTimer:
        """Evaluate `exact` on the grids; `around` comes on top.

        `max_batch` sequences decode with `queries` tokens each, a step has at most `max_tokens`,
        a sequence at most `max_context` keys.
        """
        # Every whole number: linear layers run in tiles, so their time goes up in stairs.
        longest = max(max_tokens + max_batch * queries, 2)
        line = _axis(longest, 1.0 if longest <= MOST_POINTS else 1.002)
        tokens = _axis(max(max_tokens, 2), 1.12)
        batches = _axis(max(max_batch, 2), 1.12)
        contexts = _axis(max(max_context, 2), 1.5)
        ones = np.ones_like
        base = Line(line, _prompt_steps(exact, line, ones(line)))
        prompt, keys = _pairs(tokens, contexts)
        added = _prompt_steps(exact, prompt, keys) - _prompt_steps(exact, prompt, ones(prompt))
        batch, context = _pairs(batches, contexts)
        alone = _prompt_steps(exact, batch * queries, ones(batch))
        decoded = _decode_steps(exact, batch, context, queries) - alone
        return cls(
            base,
            Grid(tokens, contexts, added.reshape(len(tokens), -1)),
            Grid(batches, contexts, decoded.reshape(len(batches), -1)),
            around,
        )

    def step_time_s(self, load: StepLoad) -> float:
        """Seconds of one step."""
        prompt, batch = load.prefill_tokens, load.decode_batch
        around = self._around
        tokens = prompt + load.decode_tokens
        seconds = self._base.at(tokens + load.padding_tokens)
        floor_s = around.floor_s
        sequences = batch
        if prompt:
            seconds += self._prompts.at(prompt, load.prefill_pairs / prompt)
            sequences += 1
            if tokens > around.graph_tokens:
                floor_s = around.prompt_floor_s
        if batch:
            seconds += self._decoding.at(batch, load.decode_context / batch)
        host_s = around.step_s + around.sequence_s * sequences
        if around.hidden:
            return max(seconds, floor_s + host_s)
        return max(seconds, floor_s) + host_s

    def decode_times_s(self, load: StepLoad, contexts: Floats) -> Floats:
        """Seconds of decoding steps that differ in their context."""
        batch, around = load.decode_batch, self._around
        base = self._base.at(load.decode_tokens + load.padding_tokens)
        device_s = base + self._decoding.along(batch, contexts / batch)
        host_s = around.step_s + around.sequence_s * batch
        if around.hidden:
            return np.asarray(np.maximum(device_s, around.floor_s + host_s))
        return np.asarray(np.maximum(device_s, around.floor_s) + host_s)


def _require_finite(values: Floats) -> None:
    if not np.all(np.isfinite(values)):
        raise ConfigError("a step time is not a finite number; the table cannot be built")


def _axis(high: int, factor: float) -> Floats:
    """Whole numbers from 1 to `high`, each at most `factor` times the one before (or +1)."""
    points = [1]
    while points[-1] < high:
        points.append(min(max(points[-1] + 1, int(points[-1] * factor)), high))
    return np.asarray(points, dtype=np.float64)


def _pairs(rows: Floats, columns: Floats) -> tuple[Floats, Floats]:
    first, second = np.meshgrid(rows, columns, indexing="ij")
    return first.ravel(), second.ravel()


def _prompt_steps(exact: ExactSteps, tokens: Floats, keys: Floats) -> Floats:
    """Steps of prompt tokens alone, each attending to `keys` on average."""
    none = np.zeros_like(tokens)
    past = np.maximum(keys - (tokens + 1.0) / 2.0, 0.0)
    return exact(StepArrays(tokens, tokens * keys, past + tokens, none, none, none))


def _decode_steps(exact: ExactSteps, batch: Floats, context: Floats, queries: int) -> Floats:
    none = np.zeros_like(batch)
    return exact(StepArrays(none, none, none, batch, batch * queries, batch * context))
