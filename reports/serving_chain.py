"""A server measured, calibrated on its light loads, and its heavy loads predicted.

Static runs (lone prompts, fixed batches) and two low rates are all that the fit sees; capacity is
estimated from an offline run. Rates nearer to saturation, and one beyond it, are then simulated and
compared with what was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from analyzer.serving import EngineOptions, SimResult
from analyzer.serving.timers import StepTimer
from analyzer.workload_arrivals import AllAtOnce, ClosedLoop, Fixed, Load, Poisson, Uniform
from calibration.serving_fit import (
    BuildTimer,
    Knob,
    Observed,
    ServingFit,
    fit_serving,
    medians_of,
    simulate_load,
    with_request_s,
)
from profilers.serving import ServeRun, Session
from profilers.serving.run import progress_line
from profilers.serving.saturation import judge_spans

LOW_SHARES = (0.2, 0.35)
HELD_OUT_SHARES = (0.5, 0.65, 0.8, 0.9)
BEYOND_SHARE = 1.4
WITHIN = 0.10
MOST_DRIFT = 0.05
Tell = Callable[[str], None]


class Mix(NamedTuple):
    """The lengths that users send."""

    input_tokens: Uniform
    output_tokens: Uniform


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


def static_loads(longest: int, repeats: int) -> Iterator[tuple[str, Load]]:
    """Lone prompts of rising length, then batches that start together, then a long context."""
    for tokens in (16, 64, 256, longest):
        yield f"lone prompt {tokens}", static_load(ClosedLoop(concurrency=1), tokens, 8, repeats)
    for batch in (2, 4, 8, 16, 32):
        yield f"batch {batch}", static_load(AllAtOnce(), 16, 24, batch)
    yield "long context", static_load(ClosedLoop(concurrency=4), longest, 24, 8)


def static_load(arrivals: ClosedLoop | AllAtOnce, prompt: int, answer: int, requests: int) -> Load:
    """`requests` prompts and answers of fixed lengths in tokens."""
    return Load(
        arrivals=arrivals,
        input_tokens=Fixed(tokens=prompt),
        output_tokens=Fixed(tokens=answer),
        requests=requests,
        seed=prompt + requests,
    )


def offline_load(mix: Mix, requests: int) -> Load:
    """All at once: what comes out per second is the capacity."""
    return Load(
        arrivals=AllAtOnce(),
        input_tokens=mix.input_tokens,
        output_tokens=mix.output_tokens,
        requests=requests,
        seed=77,
    )


def open_load(mix: Mix, rate: float, seconds: float, seed: int) -> Load:
    """Poisson arrivals of the mix."""
    return Load(
        arrivals=Poisson(rate_per_s=rate),
        input_tokens=mix.input_tokens,
        output_tokens=mix.output_tokens,
        requests=max(int(rate * seconds), 40),
        seed=seed,
    )


class _Bench:
    """Runs loads one after another, remembers doubts, and watches whether the machine drifts."""

    def __init__(self, opened: Session, tell: Tell) -> None:
        self.invalid: dict[str, tuple[str, ...]] = {}
        self.pulses: list[float] = []
        self._opened = opened
        self._tell = tell

    def run(self, name: str, load: Load) -> ServeRun:
        """One load; what is wrong with the run is kept under its name."""
        done = self._opened.run(load)
        self._tell(f"{name}: {progress_line(done)}")
        if done.summary.invalid:
            self.invalid[name] = done.summary.invalid
        return done

    def pulse(self) -> None:
        """The same lone requests again: they must take what they took before."""
        load = static_load(ClosedLoop(concurrency=1), 32, 16, 3)
        self.pulses.append(_medians(self._opened.run(load))["tpot_s"])

    def judge_drift(self) -> None:
        """Say so if lone requests changed their pace while the rest was measured."""
        drift = max(self.pulses) / min(self.pulses) - 1.0
        self._tell(f"lone requests' TPOT moved by {drift:.1%} between the runs")
        if drift > MOST_DRIFT:
            reason = (
                f"lone requests' TPOT moved by {drift:.0%} meanwhile: the machine was not quiet"
            )
            self.invalid["drift"] = (reason,)


def chain(
    opened: Session,
    engine: EngineOptions,
    mix: Mix,
    build: BuildTimer,
    knobs: tuple[Knob, ...],
    seconds: float,
    repeats: int = 5,
    tell: Tell = lambda line: None,
) -> Validation:
    """Measure, fit, predict."""
    bench = _Bench(opened, tell)
    bench.pulse()
    observed = [
        _observed(name, bench.run(name, load))
        for name, load in static_loads(mix.input_tokens.high, repeats)
    ]
    offline = bench.run("offline", offline_load(mix, 4 * engine.max_sequences))
    capacity = offline.summary.request_rate_per_s
    tell(f"capacity of about {capacity:.3g} requests/s")
    done: dict[str, ServeRun] = {}
    for place, share in enumerate((*LOW_SHARES, *HELD_OUT_SHARES, BEYOND_SHARE)):
        bench.pulse()
        name = f"rate {share:g}"
        done[name] = bench.run(name, open_load(mix, share * capacity, seconds, place))
    bench.pulse()
    bench.judge_drift()
    for share in LOW_SHARES:
        name = f"rate {share:g}"
        observed.append(_observed(name, done.pop(name)))
    fitted = fit_serving(observed, engine, build, knobs)
    tell(f"fitted on {len(observed)} runs to {fitted.error:.1%}: {_shown(fitted.values)}")
    timer = build(fitted.values)
    engine = with_request_s(engine, fitted.values.get("request_s", 0.0))
    rows = [row for name, run in done.items() for row in compare(name, run, engine, timer)]
    return Validation(fitted, rows, engine, bench.invalid)


def compare(name: str, done: ServeRun, engine: EngineOptions, timer: StepTimer) -> list[Row]:
    """Held-out figures of one run: latencies below saturation, the rate that it sustains above."""
    simulated = simulate_load(done.load, engine, timer)
    verdict = done.summary.saturation
    if verdict is not None and verdict.saturated:
        theirs = judge_spans([(each.arrival_s, each.end_s) for each in simulated.request_times])
        ended = theirs.completed_per_s if theirs else simulated.request_rate_per_s
        return [Row(name, "saturation rate", verdict.completed_per_s, ended)]
    measured = _medians(done)
    medians = medians_of(simulated)
    rows = [Row(name, metric, measured[metric], medians[metric]) for metric in measured]
    tokens = done.summary.output_tokens_per_s
    if tokens:
        rows.append(Row(name, "output_tok_s", tokens, _tokens_per_s(simulated)))
    return rows


def _tokens_per_s(result: SimResult) -> float:
    """As the profiler counts: from the first arrival to the last end."""
    times = result.request_times
    span = max(each.end_s for each in times) - min(each.arrival_s for each in times)
    return sum(each.output_tokens for each in times) / span


def _observed(name: str, done: ServeRun) -> Observed:
    """What the fit may see of a run. Of a batch that starts together only TPOT: its first steps
    depend on how the requests trickle in."""
    medians = _medians(done)
    if isinstance(done.load.arrivals, AllAtOnce):
        medians.pop("ttft_s")
    return Observed(name, done.load, medians)


def _medians(done: ServeRun) -> dict[str, float]:
    good = [outcome for outcome in done.log.outcomes if outcome.ok]
    ttfts = [one for outcome in good if (one := outcome.ttft_s()) is not None]
    tpots = [outcome.tpot_s for outcome in good if outcome.tpot_s is not None]
    return {"ttft_s": float(np.median(ttfts)), "tpot_s": float(np.median(tpots))}


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
    for name, reasons in found.invalid.items():
        lines.append(f"{name}: {'; '.join(reasons)}")
    return "\n".join(lines)
