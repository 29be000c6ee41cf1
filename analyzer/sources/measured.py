"""The source that measures here and now, through a hook that profilers hand in.

This room may not know the profilers: whoever can time an operator registers a function, and
answers are kept so that no shape is measured twice.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from analyzer.errors import ConfigError, ProfilerError
from analyzer.optable import OpTable
from analyzer.sources.base import Answer, Context, Source
from analyzer.sources.describe import COORDINATES, Described, describe


class Reading(NamedTuple):
    """One measurement: seconds, and their relative noise."""

    seconds: float
    noise: float


class Request(NamedTuple):
    """One operator to time; `shape` holds the coordinates of its class (m, n, k; groups, keys…)."""

    op: str
    dtype: str
    kv_dtype: str
    shape: tuple[tuple[str, float], ...]


class Measurer(Protocol):
    """Times one operator on the machine at hand; a ProfilerError where it cannot."""

    def __call__(self, request: Request) -> Reading: ...


_REGISTERED: list[Measurer] = []
MOST_SHAPES = 64
"""New shapes that one question may measure: a sweep is no reason to run for hours."""


def register_measurer(measurer: Measurer) -> None:
    """What profilers call to offer themselves; the latest one counts."""
    _REGISTERED.append(measurer)


@dataclass(frozen=True)
class Measured:
    """Operators as this machine runs them."""

    measurer: Measurer
    cache: MutableMapping[Request, Reading] = field(default_factory=dict)
    most: int = MOST_SHAPES
    notes: Mapping[str, int] = field(default_factory=dict)
    name: str = "measured"

    def answer(self, table: OpTable) -> Answer:
        """Measure what is not in the cache, shape by shape."""
        shape = (len(table.names), *table.shape)
        seconds, uncertainty = np.full(shape, np.nan), np.full(shape, np.nan)
        remarks: dict[str, int] = {}
        budget = [self.most]
        for index in range(len(table.names)):
            described = describe(table, index)
            if described is None:
                reason = f"{table.names[index]}: cannot be measured alone"
                remarks[reason] = remarks.get(reason, 0) + seconds[index].size
                continue
            readings = [self._read(request, budget, remarks) for request in _requests(described)]
            pairs = np.asarray(readings).reshape(*described.shape, 2)
            seconds[index] = pairs[..., 0] * described.share
            uncertainty[index] = pairs[..., 1]
        return Answer(seconds, uncertainty, remarks)

    def _read(self, request: Request, budget: list[int], remarks: dict[str, int]) -> Reading:
        if request in self.cache:
            return self.cache[request]
        silent = Reading(np.nan, np.nan)
        if budget[0] <= 0:
            reason = f"more than {self.most} new shapes"
            remarks[reason] = remarks.get(reason, 0) + 1
            return silent
        budget[0] -= 1
        try:
            reading = self.measurer(request)
        except ProfilerError as error:
            remarks[str(error)] = remarks.get(str(error), 0) + 1
            return silent
        if not reading.seconds > 0:
            raise ProfilerError(f"{request.op}: the hook measured {reading.seconds:g} s")
        self.cache[request] = reading
        return reading


def _requests(described: Described) -> list[Request]:
    names = COORDINATES[described.op]
    return [
        Request(
            described.op,
            described.dtypes[0],
            described.kv_dtype,
            tuple(
                (name, float(round(2.0**value, 6))) for name, value in zip(names, row, strict=True)
            ),
        )
        for row in described.coordinates[0]
    ]


def build(context: Context) -> Source:
    """Options `measured`: `measurer` (default: the one registered), `cache`, `most` new shapes."""
    given = context.options.get("measured", {})
    measurer = given.get("measurer") or (_REGISTERED[-1] if _REGISTERED else None)
    if measurer is None:
        raise ConfigError("measured: nothing here can measure; load the profilers first")
    cache = given.get("cache")
    most = int(given.get("most", MOST_SHAPES))
    return Measured(measurer, {} if cache is None else cache, most)
