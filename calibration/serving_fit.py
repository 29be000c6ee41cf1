"""Fit a serving engine's rates by simulating the very runs that were measured.

What a load generator sees (medians of TTFT and TPOT) is not a step time, but a mixture of steps
and of waiting for others. So nothing is taken apart: each measured run — the same arrivals, the
same lengths — is simulated, and the rates are moved until the simulated medians are the measured
ones. Meant for static and lightly loaded runs; heavier ones are then predicted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import CalibrationError
from analyzer.serving import Host, SimOptions, SimResult, simulate
from analyzer.serving.options import EngineOptions
from analyzer.serving.timers import StepLoad, StepTimer
from analyzer.workload_arrivals import AllAtOnce, ClosedLoop, Load

Floats = NDArray[np.float64]
METRICS = ("ttft_s", "tpot_s")
PRIOR_WIDTH = 2.0
"""How far (in natural logs) a parameter may wander before its prior pulls noticeably."""
PRIOR_WEIGHT = 0.002
WIDE_TO_NARROW = (0.3, 0.1, 0.02)
"""Steps of the numerical derivative, in natural logs."""


class Pace(NamedTuple):
    """How a machine that drifts ran for a while, against how it usually ran."""

    slack_s: float = 0.0
    """By how much steps without prompts took longer."""
    prompts: float = 1.0
    """How many times as long steps with prompts took."""


USUAL = Pace()


class Part(NamedTuple):
    """One run of a load, and the machine's pace meanwhile."""

    load: Load
    pace: Pace = USUAL


class Observed(NamedTuple):
    """Measured runs of one kind: their loads, and the medians over all their requests (s)."""

    name: str
    parts: tuple[Part, ...]
    medians: dict[str, float]
    requests: tuple[dict[int, dict[str, float]], ...] = ()
    """Of each part, every request's own figures by its number; then these are met, not the medians:
    each request has a twin in the simulation that came at the same time with the same lengths."""


class PacedTimer:
    """Another timer's steps on a machine of that pace."""

    def __init__(self, timer: StepTimer, pace: Pace) -> None:
        self._timer = timer
        self._pace = pace

    def step_time_s(self, load: StepLoad) -> float:
        """One step."""
        usual_s = self._timer.step_time_s(load)
        if load.prefill_tokens:
            return usual_s * self._pace.prompts
        return max(usual_s + self._pace.slack_s, 0.0)

    def decode_times_s(self, load: StepLoad, contexts: Floats) -> Floats:
        """Steps that differ in their context."""
        return np.maximum(self._timer.decode_times_s(load, contexts) + self._pace.slack_s, 0.0)


class Knob(NamedTuple):
    """One quantity to fit: a positive number between its bounds."""

    name: str
    start: float
    low: float
    high: float


BuildTimer = Callable[[dict[str, float]], StepTimer]
"""A step timer from the knobs' values."""


class ServingFit(msgspec.Struct, frozen=True, kw_only=True):
    """Knobs at their best, and how well the fitted runs are met (ln simulated/measured)."""

    values: dict[str, float]
    residuals: dict[str, dict[str, float]]

    @property
    def error(self) -> float:
        """Geometric mean error over all fitted medians."""
        all_of_them = [abs(one) for run in self.residuals.values() for one in run.values()]
        return float(np.expm1(np.mean(all_of_them)))


def fit_serving(
    observed: Sequence[Observed],
    engine: EngineOptions,
    build: BuildTimer,
    knobs: Sequence[Knob],
) -> ServingFit:
    """Least squares (soft L1) on ln(simulated/measured); `request_s` among the knobs is the host's.

    Medians of random arrivals jump as a rate moves (a request just catches a step, or just not),
    so the fit begins with runs that have none, and takes derivatives from wide to narrow.
    Raises CalibrationError if there are fewer medians than knobs.
    """
    wanted = sum(len(run.medians) for run in observed)
    if wanted < len(knobs):
        raise CalibrationError(f"{wanted} medians cannot fix {len(knobs)} rates; measure more runs")
    steady = [run for run in observed if _is_steady(run)]
    problem = _Problem(observed, engine, build, knobs)
    logs = problem.start
    if sum(len(run.medians) for run in steady) >= len(knobs):
        alone = _Problem(steady, engine, build, knobs)
        for difference in WIDE_TO_NARROW:
            logs = alone.solve(logs, difference)
    for difference in WIDE_TO_NARROW[1:]:
        logs = problem.solve(logs, difference)
    values = problem.values(logs)
    return ServingFit(values=values, residuals=problem.by_run(values))


class _Problem:
    """Simulated against measured medians as a function of the knobs' logs."""

    def __init__(
        self,
        observed: Sequence[Observed],
        engine: EngineOptions,
        build: BuildTimer,
        knobs: Sequence[Knob],
    ) -> None:
        self._observed = observed
        self._engine = engine
        self._build = build
        self._knobs = knobs
        self.low = np.log([knob.low for knob in knobs])
        self.high = np.log([knob.high for knob in knobs])
        self.start = np.clip(np.log([knob.start for knob in knobs]), self.low, self.high)

    def values(self, logs: Floats) -> dict[str, float]:
        return {knob.name: float(np.exp(log)) for knob, log in zip(self._knobs, logs, strict=True)}

    def residuals(self, logs: Floats) -> Floats:
        runs = self.by_run(self.values(logs))
        data = [one for run in runs.values() for one in run.values()]
        prior = PRIOR_WEIGHT * (logs - self.start) / PRIOR_WIDTH
        return np.concatenate([np.asarray(data), prior])

    def solve(self, start: Floats, difference: float) -> Floats:
        """The best logs near `start`, with derivatives over `difference`."""
        from scipy.optimize import least_squares

        def slopes(logs: Floats) -> Floats:
            return self.jacobian(logs, difference)

        found = least_squares(
            self.residuals,
            start,
            jac=slopes,
            bounds=(self.low, self.high),
            loss="soft_l1",
            f_scale=0.05,
            max_nfev=25,
        )
        return np.asarray(found.x)

    def jacobian(self, logs: Floats, difference: float) -> Floats:
        """Central differences."""
        columns = []
        for place in range(len(logs)):
            step = np.zeros_like(logs)
            step[place] = difference
            up, down = self.residuals(logs + step), self.residuals(logs - step)
            columns.append((up - down) / (2 * difference))
        return np.stack(columns, axis=1)

    def by_run(self, values: dict[str, float]) -> dict[str, dict[str, float]]:
        timer = self._build(values)
        engine = with_request_s(self._engine, values.get("request_s", 0.0))
        return {
            run.name: log_ratios(simulate_parts(run.parts, engine, timer), run)
            for run in self._observed
        }


def with_request_s(engine: EngineOptions, request_s: float) -> EngineOptions:
    """The engine with that much time between a request's arrival and its place in the queue."""
    host: Host = msgspec.structs.replace(engine.host, request_s=request_s)
    return msgspec.structs.replace(engine, host=host)


def _is_steady(run: Observed) -> bool:
    return all(isinstance(part.load.arrivals, AllAtOnce | ClosedLoop) for part in run.parts)


def simulate_parts(
    parts: Sequence[Part], engine: EngineOptions, timer: StepTimer
) -> list[SimResult]:
    """One replica under one load after another, each at its pace."""
    return [
        simulate(
            SimOptions(load=part.load, engine=engine),
            timer if part.pace == USUAL else PacedTimer(timer, part.pace),
        )
        for part in parts
    ]


def medians_of(results: Sequence[SimResult]) -> dict[str, float]:
    """Median TTFT and TPOT over all requests of simulations, however few they were."""
    times = [each for found in results for each in found.request_times if not each.refused]
    tpots = [each.tpot_s for each in times if each.tpot_s is not None]
    found = {"ttft_s": float(np.median([each.ttft_s for each in times]))}
    if tpots:
        found["tpot_s"] = float(np.median(tpots))
    return found


def log_ratios(results: Sequence[SimResult], run: Observed) -> dict[str, float]:
    """ln(simulated/measured) of each measured figure: of the medians, or request by request."""
    if run.requests:
        return {name: _of_twins(results, run, name) for name in run.medians}
    simulated = medians_of(results)
    return {name: float(np.log(simulated[name] / value)) for name, value in run.medians.items()}


def _of_twins(results: Sequence[SimResult], run: Observed, name: str) -> float:
    """Mean over all requests but the tenth at either end: which of two came first decides those."""
    logs = []
    for result, measured in zip(results, run.requests, strict=True):
        for times in result.request_times:
            real = measured.get(times.number, {}).get(name)
            ours = getattr(times, name)
            if real and ours:
                logs.append(np.log(ours / real))
    cut = len(logs) // 10
    return float(np.mean(np.sort(logs)[cut : len(logs) - cut]))
