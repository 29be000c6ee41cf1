"""What is run on a server to validate the simulator: static loads, and rates up to saturation.

Everything is run in rounds, so that a machine whose pace drifts falls on all loads alike; and the
same lone requests are sent before and after each run, which shows the pace of light steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.serving import EngineOptions
from analyzer.workload_arrivals import AllAtOnce, ClosedLoop, Fixed, Load, Poisson, Uniform
from calibration.serving_fit import Pace
from profilers.serving import ServeRun, Session
from profilers.serving.run import progress_line
from profilers.serving.server import ServerFacts

LOW_SHARES = (0.2, 0.35)
HELD_OUT_SHARES = (0.5, 0.65, 0.8, 0.9)
BEYOND_SHARE = 1.4
LEAST_REQUESTS = 8
Tell = Callable[[str], None]


class Mix(NamedTuple):
    """The lengths that users send."""

    input_tokens: Uniform
    output_tokens: Uniform


class Schedule(NamedTuple):
    """How long it may take."""

    seconds: float = 60.0
    """Of each rate, over all rounds."""
    rounds: int = 4
    repeats: int = 3
    """Requests of each lone prompt in a round."""


class Taken(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run, and what lone requests took before and after it."""

    run: ServeRun
    pulse_s: tuple[float, float]
    """TPOT of lone requests; 0 where the server hands out whole answers at once."""
    prompt_s: tuple[float, float] = (1.0, 1.0)
    """TTFT of lone long prompts."""


class Measured(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the server did: kept as it is, so that it can be looked at again."""

    facts: ServerFacts
    runs: dict[str, tuple[Taken, ...]]
    capacity_per_s: float
    """Requests per second when all come at once; only sets the rates."""

    @property
    def pulses_s(self) -> list[float]:
        """Every look at the machine's pace, those between two runs counted for both."""
        return [each for taken in self.runs.values() for one in taken for each in one.pulse_s]

    @property
    def prompts_s(self) -> list[float]:
        """The same of long prompts."""
        return [each for taken in self.runs.values() for one in taken for each in one.prompt_s]

    def pace(self, taken: Taken) -> Pace:
        """How the machine ran around a run, against how it usually ran: what drifts in a step of
        a lone answer (memory, wake-ups, the server's other processes) need not in long prompts.
        """
        return Pace(
            slack_s=float(np.mean(taken.pulse_s)) - float(np.median(self.pulses_s)),
            prompts=float(np.mean(taken.prompt_s) / np.median(self.prompts_s)),
        )


def rate_name(share: float) -> str:
    """What the runs at a share of the capacity are called."""
    return f"rate {share:g}"


def static_loads(longest: int, most: int, repeats: int) -> Iterator[tuple[str, Load]]:
    """Lone prompts of rising length, batches that start together, long answers and contexts."""
    for tokens in (16, 64, 256, longest):
        yield f"lone prompt {tokens}", static_load(ClosedLoop(concurrency=1), tokens, 8, repeats)
    for batch in (2, 4, 8, 16, most):
        yield f"batch {batch}", static_load(AllAtOnce(), 16, 24, batch)
    for batch in (most // 2, most):
        # Of a batch with long answers, the prompts that trickled in are a small part.
        yield f"long answers {batch}", static_load(AllAtOnce(), 64, 128, batch)
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
        requests=max(int(rate * seconds), LEAST_REQUESTS),
        seed=seed,
    )


def measure(
    opened: Session,
    engine: EngineOptions,
    mix: Mix,
    plan: Schedule,
    tell: Tell = lambda line: None,
) -> Measured:
    """Find the capacity, then go round: static loads, rates up to saturation, one beyond it."""
    bench = _Bench(opened, mix.input_tokens.high, tell)
    offline = opened.run(offline_load(mix, 4 * engine.max_sequences))
    capacity = offline.summary.request_rate_per_s
    tell(f"capacity of about {capacity:.3g} requests/s")
    bench.pulse()
    for number in range(plan.rounds):
        tell(f"round {number + 1} of {plan.rounds}")
        bench.together(static_loads(mix.input_tokens.high, engine.max_sequences, plan.repeats))
        for place, share in enumerate((*LOW_SHARES, *HELD_OUT_SHARES, BEYOND_SHARE)):
            # A queue must have time to grow before it can be told from a crowd.
            longer = 2.0 if share == BEYOND_SHARE else 1.0
            seconds = longer * plan.seconds / plan.rounds
            load = open_load(mix, share * capacity, seconds, 10 * number + place)
            bench.together([(rate_name(share), load)])
    return Measured(facts=opened.facts, runs=bench.runs, capacity_per_s=capacity)


def medians(runs: list[ServeRun]) -> dict[str, float]:
    """Median TTFT and TPOT over the successful requests of runs."""
    good = [outcome for run in runs for outcome in run.log.outcomes if outcome.ok]
    ttfts = [one for outcome in good if (one := outcome.ttft_s()) is not None]
    tpots = [outcome.tpot_s for outcome in good if outcome.tpot_s is not None]
    found = {"ttft_s": float(np.median(ttfts)), "tpot_s": float(np.median(tpots))}
    # A server that hands out a whole answer at once has a TPOT of 0, which is none.
    return {name: value for name, value in found.items() if value > 0.0}


class _Bench:
    """Runs loads one after another and watches the machine's pace."""

    def __init__(self, opened: Session, longest: int, tell: Tell) -> None:
        self.runs: dict[str, tuple[Taken, ...]] = {}
        self._last = (0.0, 0.0)
        self._longest = longest
        self._opened = opened
        self._tell = tell

    def together(self, loads: Iterator[tuple[str, Load]] | list[tuple[str, Load]]) -> None:
        """Run loads between two looks at the machine's pace."""
        before = self._last
        done = [(name, self._run(name, load)) for name, load in loads]
        after = self.pulse()
        pulses, prompts = zip(before, after, strict=True)
        for name, run in done:
            taken = Taken(run=run, pulse_s=pulses, prompt_s=prompts)
            self.runs[name] = (*self.runs.get(name, ()), taken)

    def pulse(self) -> tuple[float, float]:
        """The same lone requests again: they must take what they took before."""
        alone = ClosedLoop(concurrency=1)
        answers = medians([self._opened.run(static_load(alone, 32, 24, 5))])
        prompts = medians([self._opened.run(static_load(alone, self._longest, 2, 5))])
        self._last = (answers.get("tpot_s", 0.0), prompts["ttft_s"])
        return self._last

    def _run(self, name: str, load: Load) -> ServeRun:
        run = self._opened.run(load)
        self._tell(f"{name}: {progress_line(run)}")
        return run
