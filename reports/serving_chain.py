"""A server measured, calibrated on its light loads, and its heavy loads predicted.

Static runs (lone prompts, fixed batches) and two low rates are all that the fit sees. Rates nearer
to saturation, and one beyond it, are then simulated and compared with what was measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from analyzer.serving import EngineOptions, SimResult
from analyzer.serving.timers import StepTimer
from analyzer.workload_arrivals import AllAtOnce
from calibration.serving_fit import (
    BuildTimer,
    Knob,
    Observed,
    Pace,
    Part,
    ServingFit,
    fit_serving,
    medians_of,
    simulate_parts,
    with_request_s,
)
from profilers.serving import ServeRun, Session
from profilers.serving.measures import OVER_SATURATED
from profilers.serving.saturation import Saturation, judge_spans
from reports.serving_measure import (
    BEYOND_SHARE,
    HELD_OUT_SHARES,
    Measured,
    Mix,
    Schedule,
    Taken,
    Tell,
    measure,
    medians,
    rate_name,
)
from reports.serving_spread import Spread, spread, spread_lines

WITHIN = 0.10
MOST_DRIFT = 0.05


class Row(NamedTuple):
    """One held-out figure."""

    run: str
    metric: str
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """Simulated over measured, less one."""
        return self.simulated / self.measured - 1.0


class Validation(NamedTuple):
    """Everything that the chain found."""

    fit: ServingFit
    rows: list[Row]
    engine: EngineOptions
    invalid: dict[str, tuple[str, ...]]
    drift: float
    """Longest time per token of lone requests over the shortest, less one."""
    drift_of_prompts: float
    """The same of lone long prompts' time to their first token."""
    spreads: list[Spread]
    """Means, tails and single requests of the held-out rates and the one beyond."""


def analyse(
    measured: Measured,
    engine: EngineOptions,
    build: BuildTimer,
    knobs: tuple[Knob, ...],
    tell: Tell = lambda line: None,
) -> Validation:
    """Fit on static runs and low rates alone; predict the other rates."""
    held_out = [rate_name(share) for share in HELD_OUT_SHARES]
    beyond = rate_name(BEYOND_SHARE)
    observed = [
        _observed(name, taken, measured)
        for name, taken in measured.runs.items()
        if name not in (*held_out, beyond)
    ]
    fitted = fit_serving(observed, engine, build, knobs)
    tell(f"fitted on {len(observed)} loads to {fitted.error:.1%}: {_shown(fitted.values)}")
    timer = build(fitted.values)
    engine = with_request_s(engine, fitted.values.get("request_s", 0.0))
    rows: list[Row] = []
    spreads: list[Spread] = []
    for name in (*held_out, beyond):
        runs, simulated = _simulated(name, measured, engine, timer)
        rows += (_saturation if name == beyond else _latencies)(name, runs, simulated)
        spreads += spread(name, runs, simulated)
    drift, prompts = _drift(measured.pulses_s), _drift(measured.prompts_s)
    tell(f"between runs lone requests' TPOT moved by {drift:.1%}, long prompts by {prompts:.1%}")
    return Validation(fitted, rows, engine, _doubts(measured, rows), drift, prompts, spreads)


def _drift(pulses: Sequence[float]) -> float:
    return max(pulses) / min(pulses) - 1.0 if min(pulses) > 0 else np.inf


def chain(
    opened: Session,
    engine: EngineOptions,
    mix: Mix,
    build: BuildTimer,
    knobs: tuple[Knob, ...],
    plan: Schedule,
    tell: Tell = lambda line: None,
) -> Validation:
    """Measure, fit, predict."""
    return analyse(measure(opened, engine, mix, plan, tell), engine, build, knobs, tell)


def _observed(name: str, taken: Sequence[Taken], measured: Measured) -> Observed:
    """What the fit may see. Of a batch that starts together only TPOT: its first steps depend on
    how the requests trickle in. The same static load of every round counts as one.
    """
    runs = [one.run for one in taken]
    paces = [measured.pace(one) for one in taken]
    found = medians(runs)
    if len({run.load for run in runs}) > 1:
        parts = tuple(Part(run.load, pace) for run, pace in zip(runs, paces, strict=True))
        return Observed(name, parts, found, tuple(_by_request(run) for run in runs))
    if isinstance(runs[0].load.arrivals, AllAtOnce):
        found.pop("ttft_s", None)
    pace = Pace(*(float(np.median(each)) for each in zip(*paces, strict=True)))
    return Observed(name, (Part(runs[0].load, pace),), found)


def _by_request(run: ServeRun) -> dict[int, dict[str, float]]:
    """What each request that succeeded saw."""
    found = {}
    for outcome in run.log.outcomes:
        times = {"ttft_s": outcome.ttft_s(), "tpot_s": outcome.tpot_s}
        if outcome.ok:
            found[outcome.number] = {name: value for name, value in times.items() if value}
    return found


def _latencies(name: str, runs: list[ServeRun], simulated: list[SimResult]) -> list[Row]:
    """Medians over the requests of all rounds, and tokens per second of all rounds together."""
    theirs = medians_of(simulated)
    found = medians(runs)
    rows = [Row(name, metric, value, theirs[metric]) for metric, value in found.items()]
    tokens = sum((run.summary.output_tokens_per_s or 0.0) * run.summary.duration_s for run in runs)
    if tokens:
        spent_s = sum(run.summary.duration_s for run in runs)
        ours = [_tokens_and_span(result) for result in simulated]
        rate = sum(count for count, _ in ours) / sum(span for _, span in ours)
        rows.append(Row(name, "output_tok_s", tokens / spent_s, rate))
    return rows


def _saturation(name: str, runs: list[ServeRun], simulated: list[SimResult]) -> list[Row]:
    """The rate at which requests end while more come, a mean over the rounds."""
    real = [run.summary.saturation for run in runs]
    ours = [
        judge_spans([(each.arrival_s, each.end_s) for each in result.request_times])
        for result in simulated
    ]
    pairs = [(a, b) for a, b in zip(real, ours, strict=True) if a is not None and b is not None]
    if not pairs or not any(a.saturated for a, _ in pairs):
        return []
    return [Row(name, "saturation rate", _mean(a for a, _ in pairs), _mean(b for _, b in pairs))]


def _mean(verdicts: Iterable[Saturation]) -> float:
    return float(np.mean([each.completed_per_s for each in verdicts]))


def _simulated(
    name: str, measured: Measured, engine: EngineOptions, timer: StepTimer
) -> tuple[list[ServeRun], list[SimResult]]:
    taken = measured.runs[name]
    parts = [Part(one.run.load, measured.pace(one)) for one in taken]
    return [one.run for one in taken], simulate_parts(parts, engine, timer)


def _tokens_and_span(result: SimResult) -> tuple[int, float]:
    """As the profiler counts: from the first arrival to the last end."""
    times = result.request_times
    span_s = max(each.end_s for each in times) - min(each.arrival_s for each in times)
    return sum(each.output_tokens for each in times), span_s


def _doubts(measured: Measured, rows: list[Row]) -> dict[str, tuple[str, ...]]:
    """What is wrong with runs. One short round may look over-saturated by chance: most must."""
    invalid: dict[str, tuple[str, ...]] = {}
    for name, taken in measured.runs.items():
        reasons = [reason for one in taken for reason in one.run.summary.invalid]
        queued = [reason for reason in reasons if reason.startswith(OVER_SATURATED)]
        meant = name == rate_name(BEYOND_SHARE) or 2 * len(queued) <= len(taken)
        kept = dict.fromkeys(one for one in reasons if not (meant and one in queued))
        if kept:
            invalid[name] = tuple(kept)
    if min(measured.pulses_s) <= 0.0:
        invalid["pace"] = ("lone requests' tokens came all at once: TPOT cannot be seen",)
    if not any(row.metric == "saturation rate" for row in rows):
        invalid["saturation"] = ("no run was over-saturated: take longer ones",)
    return invalid


def _shown(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def report(found: Validation) -> str:
    """A table of the held-out figures."""
    lines = [f"{'run':<12}{'figure':<18}{'measured':>12}{'simulated':>12}{'error':>9}"]
    for row in found.rows:
        verdict = "" if abs(row.error) <= WITHIN else "  beyond 10 %"
        lines.append(
            f"{row.run:<12}{row.metric:<18}{row.measured:>12.5g}{row.simulated:>12.5g}"
            f"{row.error:>+9.1%}{verdict}"
        )
    lines += ["", "mean, 99th percentile, and each request's own figure (simulated over measured):"]
    lines += spread_lines(found.spreads)
    for name, reasons in found.invalid.items():
        lines.append(f"{name}: {'; '.join(reasons)}")
    if found.drift > MOST_DRIFT:
        lines.append(
            f"Lone requests' time per token moved by {found.drift:.0%} between the runs, long "
            f"prompts by {found.drift_of_prompts:.0%}: the machine drifts. Each run is simulated "
            "with the costs that they saw around it."
        )
    return "\n".join(lines)
