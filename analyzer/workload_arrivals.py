"""When requests come and how long they are: one description for the simulator and the profiler.

A `Load` is data; `requests(load)` turns it into a lazy, seeded stream of `RequestSpec`. The same
load and seed give the same stream, and the first n requests do not depend on how many follow.
Arrivals, prompt lengths, answer lengths and prefixes draw from streams of their own, so changing
the rate leaves the lengths as they were.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.workload_load import (
    AllAtOnce,
    Arrivals,
    ClosedLoop,
    Constant,
    Fixed,
    FromTrace,
    Gamma,
    Length,
    Load,
    LogNormal,
    Poisson,
    Ramp,
    SharedPrefix,
    TraceLength,
    Turns,
    Uniform,
)
from analyzer.workload_traces import TraceRow, read_trace

__all__ = [
    "AllAtOnce",
    "Arrivals",
    "ClosedLoop",
    "Constant",
    "Fixed",
    "FromTrace",
    "Gamma",
    "Length",
    "Load",
    "LogNormal",
    "Poisson",
    "Ramp",
    "RequestSpec",
    "SegmentKey",
    "SharedPrefix",
    "TraceLength",
    "Turns",
    "Uniform",
    "requests",
]

_CHUNK = 4096
Floats = NDArray[np.float64]


SegmentKey = tuple[str, int, int]


class RequestSpec(NamedTuple):
    """One request as planned. `scheduled_s` is None where another's end decides the time."""

    number: int
    scheduled_s: float | None
    input_tokens: int
    output_tokens: int
    segments: tuple[tuple[SegmentKey, int], ...] = ()
    """Leading parts of the prompt that others share: (name, where it ends in tokens)."""
    own_key: SegmentKey = ("request", 0, 0)
    """Name of what this request adds after its last segment."""
    think_s: float = 0.0
    """Wait after the previous turn's end."""
    follow_ups: tuple[RequestSpec, ...] = ()


def requests(load: Load) -> Iterator[RequestSpec]:
    """The load's requests in order of arrival, made as they are asked for.

    With conversations, each yielded request is a first turn and holds the later ones.
    """
    left = load.requests if load.requests is not None else math.inf
    index = 0
    for chunk in _chunks(load):
        for draw in chunk:
            if index >= left:
                return
            spec = _conversation(load, index, draw, int(min(left - index, 1 << 40)))
            index += 1 + len(spec.follow_ups)
            yield spec


class _Draw(NamedTuple):
    arrival_s: float | None
    turns: list[tuple[int, int]]
    group: int
    row: TraceRow | None


def _chunks(load: Load) -> Iterator[Iterator[_Draw]]:
    """Draws in pieces of a fixed size, so that the stream does not depend on its length."""
    seeds = np.random.SeedSequence(load.seed).spawn(4)
    gaps, prompts, answers, groups = (np.random.default_rng(seed) for seed in seeds)
    clock = _Clock(load, gaps)
    per = load.turns.count if load.turns else 1
    rows = read_trace(load.trace) if load.trace is not None else None
    kinds = load.shared_prefix.groups if load.shared_prefix else 1
    while True:
        batch = _take(rows, _CHUNK * per) if rows is not None else None
        size = _CHUNK if batch is None else len(batch) // per
        if size == 0:
            return
        asked = _lengths(load.input_tokens, prompts, _CHUNK * per, batch, "input_tokens")
        answered = _lengths(load.output_tokens, answers, _CHUNK * per, batch, "output_tokens")
        group = groups.integers(0, kinds, _CHUNK).tolist()
        yield _zip_draws(clock.take(_CHUNK, batch, per), asked, answered, group, batch, per, size)


def _zip_draws(
    times: list[float | None],
    asked: list[int],
    answered: list[int],
    group: list[int],
    batch: list[TraceRow] | None,
    per: int,
    size: int,
) -> Iterator[_Draw]:
    for i in range(size):
        own = range(i * per, (i + 1) * per)
        row = batch[i * per] if batch is not None else None
        yield _Draw(times[i], [(asked[j], answered[j]) for j in own], group[i], row)


def _take(rows: Iterator[TraceRow], count: int) -> list[TraceRow]:
    return [row for _, row in zip(range(count), rows, strict=False)]


class _Clock:
    """Arrival times, drawn piece by piece."""

    def __init__(self, load: Load, rng: np.random.Generator) -> None:
        self._arrivals = load.arrivals
        self._rng = rng
        self._last = 0.0
        self._first_stamp: float | None = None

    def take(self, count: int, batch: list[TraceRow] | None, per: int) -> list[float | None]:
        how = self._arrivals
        if isinstance(how, ClosedLoop):
            return [None] * count
        if isinstance(how, FromTrace):
            return [self._stamp(row, how.speed) for row in (batch or [])[::per]]
        times = self._last + np.cumsum(_GAPS[type(how)](how, self._rng, count))
        self._last = float(times[-1])
        if isinstance(how, Ramp):
            times = _warp(how, times)
        planned: list[float | None] = times.tolist()
        return planned

    def _stamp(self, row: TraceRow, speed: float) -> float:
        if row.time_s is None:
            raise ConfigError("arrivals 'trace' need a trace with a time column")
        if self._first_stamp is None:
            self._first_stamp = row.time_s
        return (row.time_s - self._first_stamp) / speed


def _exponential(how: Poisson, rng: np.random.Generator, count: int) -> Floats:
    return rng.exponential(1.0 / how.rate_per_s, count)


def _gamma(how: Gamma, rng: np.random.Generator, count: int) -> Floats:
    return rng.gamma(how.burstiness, 1.0 / (how.rate_per_s * how.burstiness), count)


def _equal(how: Constant, rng: np.random.Generator, count: int) -> Floats:
    return np.full(count, 1.0 / how.rate_per_s)


def _unit(how: Ramp, rng: np.random.Generator, count: int) -> Floats:
    return rng.exponential(1.0, count)


def _none(how: AllAtOnce, rng: np.random.Generator, count: int) -> Floats:
    return np.zeros(count)


_GAPS: dict[type, Callable[..., Floats]] = {
    Poisson: _exponential,
    Gamma: _gamma,
    Constant: _equal,
    Ramp: _unit,
    AllAtOnce: _none,
}


def _warp(how: Ramp, expected: Floats) -> Floats:
    """When a Poisson stream with the ramp's rate has seen as many arrivals as `expected`."""
    start, end, span = how.start_rate_per_s, how.end_rate_per_s, how.duration_s
    slope = (end - start) / span
    full = (start + end) / 2.0 * span
    inside = np.minimum(expected, full)
    # Written so that it holds for a slope of zero too.
    within = 2.0 * inside / (start + np.sqrt(np.maximum(start**2 + 2.0 * slope * inside, 0.0)))
    return np.asarray(within + np.maximum(expected - full, 0.0) / end)


def _lengths(
    how: Length,
    rng: np.random.Generator,
    count: int,
    batch: list[TraceRow] | None,
    field: str,
) -> list[int]:
    if isinstance(how, TraceLength):
        return [int(getattr(row, field)) for row in batch or []]
    if isinstance(how, Fixed):
        return [how.tokens] * count
    if isinstance(how, Uniform):
        drawn: list[int] = rng.integers(how.low, how.high + 1, count).tolist()
        return drawn
    return _lognormal(how, rng, count)


def _lognormal(how: LogNormal, rng: np.random.Generator, count: int) -> list[int]:
    values = np.rint(rng.lognormal(math.log(how.median), how.sigma, count))
    for _ in range(1000):
        outside = (values < how.low) | (values > how.high)
        misses = int(outside.sum())
        if misses == 0:
            kept: list[int] = values.astype(np.int64).tolist()
            return kept
        values[outside] = np.rint(rng.lognormal(math.log(how.median), how.sigma, misses))
    raise ConfigError(
        f"log-normal lengths with median {how.median:g} and sigma {how.sigma:g} hardly ever fall "
        f"in {how.low}..{how.high}; widen the range"
    )


def _conversation(load: Load, index: int, draw: _Draw, most: int) -> RequestSpec:
    """The first turn of a conversation, holding the later ones."""
    said, segments = _opening(load, draw)
    specs: list[RequestSpec] = []
    for turn, (asked, answered) in enumerate(draw.turns[:most]):
        prompt = said + asked
        own = ("session", index, turn) if load.turns else ("request", index, 0)
        think = load.turns.think_s if load.turns and turn else 0.0
        start = draw.arrival_s if turn == 0 else None
        specs.append(
            RequestSpec(index + turn, start, prompt, answered, tuple(segments), own, think)
        )
        said = prompt + answered
        segments.append((own, said))
    return specs[0]._replace(follow_ups=tuple(specs[1:]))


def _opening(load: Load, draw: _Draw) -> tuple[int, list[tuple[SegmentKey, int]]]:
    """Tokens before the first prompt's own, and their names."""
    if draw.row is not None and draw.row.shared:
        return 0, [(("trace", name, 0), end) for name, end in draw.row.shared]
    if load.shared_prefix is None:
        return 0, []
    tokens = load.shared_prefix.tokens
    return tokens, [(("prefix", draw.group, 0), tokens)]
