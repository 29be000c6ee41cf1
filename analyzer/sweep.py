"""A design space in one go: every batch × prompt × answer × tp × format of one model on one system.

Axes stay axes: what depends on the batch alone is worked out once per batch, not once per point,
so a million points take about a second. A batch that does not fit at once, or is longer than the
model reads, is NaN; a layout that cannot be is refused before anything is predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.answer import settle
from analyzer.basis import Basis
from analyzer.errors import ConfigError
from analyzer.model import Model
from analyzer.plan import Plan
from analyzer.predict import Prediction, predict
from analyzer.resolve import activation_format, check_plan
from analyzer.system import System
from analyzer.workload import Workload

Array = NDArray[np.float64]

CHUNK = 32_768
"""Points that are predicted at once: their arrays stay in the processor's caches."""
METRICS = (
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "prefill_tok_s",
    "decode_tok_s",
    "total_tok_s",
    "memory_B",
)


class Grid(NamedTuple):
    """The axes of a design space; a point is one value of each."""

    batch: Sequence[float]
    input_tokens: Sequence[float]
    output_tokens: Sequence[float]
    tp: Sequence[int] = (1,)
    weights: Sequence[str] = ("",)
    """Formats; '' is the model's own."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Points along (weights, batch, input, output, tp)."""
        lengths = (self.weights, self.batch, self.input_tokens, self.output_tokens, self.tp)
        return tuple(len(axis) for axis in lengths)


class Swept(NamedTuple):
    """Predicted figures of every point, shape (weights, batch, input, output, tp)."""

    grid: Grid
    columns: dict[str, Array]
    """One array for each of METRICS, NaN where a point cannot run; memory is per device."""
    basis: Basis
    by: Mapping[str, Array] = MappingProxyType({})
    """Per source, where others than the rates were asked: its share of the operators' time of one
    answer, prefill and decoding."""
    remarks: Mapping[str, dict[str, int]] = MappingProxyType({})
    """Per source, why it kept silent or guarded, and for how many operators of points."""


def sweep(
    model: Model,
    system: System,
    grid: Grid,
    basis: Basis,
    plan: Plan | None = None,
    arrival: str = "static",
    progress: Callable[[int], None] | None = None,
) -> Swept:
    """Predict every point of the grid; `plan` gives what the grid does not vary."""
    _check(grid)
    columns = {name: np.empty(grid.shape) for name in METRICS}
    on, tally = basis.on(system), _Tally(basis, grid.shape)
    open_model = model.unlimited()
    for place, weights in enumerate(grid.weights):
        base = _plan(plan or Plan(), weights, model, basis, system)
        for ranks in grid.tp:
            check_plan(msgspec.structs.replace(base, tp=int(ranks)), model, system)
        across = msgspec.structs.replace(base, tp=np.array(grid.tp, dtype=np.int64))
        for rows, load in _chunks(grid):
            found = predict(
                open_model, system, across, load, basis.rates, arrival, queue=False, on=on,
                strict=False,
            )  # fmt: skip
            tally.add((place, rows), found)
            beyond = _beyond(model, load)
            for name in METRICS:
                values = found.memory.total_B if name == "memory_B" else getattr(found, name)
                columns[name][place, rows] = values
                if beyond is not None and name != "memory_B":
                    columns[name][place, rows][beyond] = np.nan
            if progress is not None:
                progress(columns["ttft_s"][place, rows].size)
    return Swept(grid, columns, basis, tally.by, tally.remarks)


class _Tally:
    """Who stood for the times of a sweep, where other sources than the rates were asked."""

    def __init__(self, basis: Basis, shape: tuple[int, ...]) -> None:
        self._ladder = basis.ladder
        named = basis.ladder.sources if basis.ladder else ()
        self.by = {source.name: np.empty(shape) for source in named}
        self.remarks: dict[str, dict[str, int]] = {}

    def add(self, place: tuple[int, slice], found: Prediction) -> None:
        """Take in one chunk of points."""
        if self._ladder is None:
            return
        from analyzer.sources.credit import added, credit

        first, later = credit(found.prefill, self._ladder), credit(found.decode, self._ladder)
        weight = found.ttft_s / found.e2e_s
        for name, share in self.by.items():
            share[place] = weight * first.shares[name] + (1.0 - weight) * later.shares[name]
        added(self.remarks, first.remarks)
        added(self.remarks, later.remarks)


def _check(grid: Grid) -> None:
    for name, axis in grid._asdict().items():
        if not len(axis):
            raise ConfigError(f"the sweep has no values for {name}")


def _plan(plan: Plan, weights: str, model: Model, basis: Basis, system: System) -> Plan:
    stored = weights or plan.weights or model.native_weights
    named = msgspec.structs.replace(plan, weights=stored, activations=activation_format(stored))
    return settle(named, model, basis, system)


def _chunks(grid: Grid) -> Iterator[tuple[slice, Workload]]:
    """Slices of the batch axis, and their workloads with every axis in its place."""
    batch = np.asarray(grid.batch, dtype=np.float64)[:, None, None, None]
    prompt = np.asarray(grid.input_tokens, dtype=np.float64)[:, None, None]
    answer = np.asarray(grid.output_tokens, dtype=np.float64)[:, None]
    step = max(CHUNK // (prompt.size * answer.size * len(grid.tp)), 1)
    for start in range(0, len(batch), step):
        rows = slice(start, start + step)
        yield rows, Workload(batch=batch[rows], input_tokens=prompt, output_tokens=answer)


def _beyond(model: Model, load: Workload) -> Any:
    """Where prompt and answer are longer than the model reads; None where nowhere."""
    if model.max_context is None:
        return None
    over = load.input_tokens + load.output_tokens > model.max_context
    if not np.any(over):
        return None
    shape = (len(load.batch), *over.shape[:-1], 1)
    return np.broadcast_to(over, shape)[..., 0]
