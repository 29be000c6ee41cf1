"""The closed forms of loads against the event-driven simulator, over a grid of timers and lengths.

Both are given the same linear step times; lengths vary by 10 %, as those of load generators do.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import pytest

from analyzer.open_loop import Replica, all_at_once, most_per_s, poisson, saturated
from analyzer.serving import AffineTimer, EngineOptions, SimOptions, SimResult, simulate
from analyzer.steady import Busy, closed_loop
from analyzer.timing.rates import Rates
from analyzer.workload_arrivals import (
    AllAtOnce,
    Arrivals,
    ClosedLoop,
    Constant,
    Load,
    Poisson,
    Uniform,
)

SMALL = AffineTimer(
    step_s=0.005, token_s=2.5e-5, pair_s=3e-10, chunk_s=2e-4, sequence_s=2e-5, key_s=4e-8
)
SLOW = AffineTimer(step_s=0.03, token_s=4e-4, pair_s=2e-9, sequence_s=1e-3, key_s=5e-7)
TIMERS = (SMALL, SLOW)
LENGTHS = ((128, 128), (1024, 256), (4096, 128))
STEP_TOKENS = 8192
MOST = 64
AMPLE = 4_000_000
ROUNDS = 10


class Setting(NamedTuple):
    """What is served, by what."""

    timer: AffineTimer
    prompt: int
    answer: int
    kv_tokens: int = AMPLE

    def replica(self, growth: float = 0.5) -> Replica:
        """The same in the terms of the closed forms."""
        timer, whole = self.timer, math.ceil(self.prompt / STEP_TOKENS)
        pairs = self.prompt * (self.prompt + 1) / 2
        work_s = timer.token_s * self.prompt + timer.pair_s * pairs + timer.chunk_s * whole
        fits = self.kv_tokens / (self.prompt + growth * self.answer)
        most = float(math.floor(min(MOST, fits)))
        sizes = most ** (np.arange(12) / 11.0)
        keys = self.prompt + self.answer / 2
        each_s = timer.token_s + timer.sequence_s + timer.key_s * keys
        return Replica(
            alone_s=np.array(work_s + timer.step_s * whole),
            work_s=np.array(work_s),
            prompt_steps=np.array(self.prompt / STEP_TOKENS),
            most=np.array(most),
            sizes=sizes,
            steps_s=timer.step_s + each_s * sizes,
        )

    def simulated(self, arrivals: Arrivals, requests: int) -> SimResult:
        """What the simulator says."""
        engine = EngineOptions(
            kv_blocks=self.kv_tokens // 16,
            max_sequences=MOST,
            max_batched_tokens=STEP_TOKENS,
            prefix_caching=False,
        )
        load = Load(
            arrivals=arrivals,
            input_tokens=_about(self.prompt),
            output_tokens=_about(self.answer),
            requests=requests,
            seed=1,
        )
        return simulate(SimOptions(load=load, engine=engine), self.timer)


def _about(tokens: int) -> Uniform:
    return Uniform(low=int(tokens * 0.9), high=int(tokens * 1.1))


SETTINGS = [Setting(timer, *lengths) for timer, lengths in product(TIMERS, LENGTHS)]


class Misses:
    """ln(form/simulator) of one figure over a grid."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def add(self, form: float, simulated: float) -> None:
        self.seen.append(math.log(float(form) / simulated))

    def within(self, median: float, worst: float) -> None:
        """Hold both against what is promised, as fractions."""
        sizes = np.abs(self.seen)
        assert np.expm1(np.median(sizes)) <= median, np.round(self.seen, 2)
        assert np.expm1(sizes.max()) <= worst, np.round(self.seen, 2)


def _means(result: SimResult) -> tuple[float, float]:
    assert result.ttft is not None
    assert result.tpot is not None
    return result.ttft.mean, result.tpot.mean


def test_a_closed_loop() -> None:
    ttft, tpot = Misses(), Misses()
    rates = Rates.ideal().with_values(burst=0.5 / ROUNDS, interference=1.0)
    for setting, count in product(SETTINGS, (1, 8, 48, 160)):
        one = setting.replica()
        running = min(float(count), float(one.most))
        busy = Busy(one.alone_s, one.work_s, one.step_s(np.array(running)))
        form = closed_loop(busy, setting.answer, count, running, rates)
        first, later = _means(setting.simulated(ClosedLoop(concurrency=count), ROUNDS * count))
        ttft.add(form.ttft_s, first)
        tpot.add(form.tpot_s, later)
    ttft.within(median=0.12, worst=0.7)
    tpot.within(median=0.04, worst=0.12)


def test_all_at_once() -> None:
    ttft, tpot, pace = Misses(), Misses(), Misses()
    for setting, count in product(SETTINGS, (1, 40, 100, 400)):
        form = all_at_once(setting.replica(), float(setting.answer), np.array(float(count)))
        result = setting.simulated(AllAtOnce(), count)
        first, later = _means(result)
        ttft.add(form.ttft_s, first)
        tpot.add(form.tpot_s, later)
        pace.add(form.requests_per_s, count / result.duration_s)
    ttft.within(median=0.05, worst=0.25)
    tpot.within(median=0.05, worst=0.12)
    pace.within(median=0.03, worst=0.12)


def _tight() -> Iterator[Setting]:
    """Caches that hold a dozen sequences."""
    for timer, (prompt, answer) in product(TIMERS, LENGTHS):
        yield Setting(timer, prompt, answer, 12 * (prompt + answer))


def test_all_at_once_where_the_cache_is_small() -> None:
    ttft, pace = Misses(), Misses()
    for setting in _tight():
        form = all_at_once(setting.replica(1.0), float(setting.answer), np.array(100.0))
        result = setting.simulated(AllAtOnce(), 100)
        ttft.add(form.ttft_s, _means(result)[0])
        pace.add(form.requests_per_s, 100 / result.duration_s)
    ttft.within(median=0.12, worst=0.3)
    pace.within(median=0.12, worst=0.3)


SHARES = (0.1, 0.4, 0.7)
"""Of what a replica can serve."""


def _rated(shares: Iterable[float]) -> Iterator[tuple[Setting, Replica, float]]:
    for setting, share in product(SETTINGS, shares):
        one = setting.replica()
        yield setting, one, share * float(most_per_s(one, setting.answer))


def test_independent_arrivals() -> None:
    ttft, tpot = Misses(), Misses()
    for setting, one, rate in _rated(SHARES):
        form = poisson(one, float(setting.answer), np.array(rate))
        first, later = _means(setting.simulated(Poisson(rate_per_s=rate), 400))
        ttft.add(form.ttft_s, first)
        tpot.add(form.tpot_s, later)
    ttft.within(median=0.08, worst=0.35)
    tpot.within(median=0.08, worst=0.5)


def test_even_arrivals_wait_less() -> None:
    ttft = Misses()
    for setting, one, rate in _rated((0.4,)):
        answer = float(setting.answer)
        even = poisson(one, answer, np.array(rate), spread=0.0)
        assert even.ttft_s <= poisson(one, answer, np.array(rate)).ttft_s
        ttft.add(even.ttft_s, _means(setting.simulated(Constant(rate_per_s=rate), 300))[0])
    ttft.within(median=0.1, worst=0.4)


def test_more_than_can_be_served() -> None:
    ttft, tpot = Misses(), Misses()
    for setting, one, rate in _rated((2.5,)):
        form = poisson(one, float(setting.answer), np.array(rate), np.array(400.0))
        first, later = _means(setting.simulated(Poisson(rate_per_s=rate), 400))
        ttft.add(form.ttft_s, first)
        tpot.add(form.tpot_s, later)
        assert np.isnan(poisson(one, float(setting.answer), np.array(rate)).ttft_s)
    ttft.within(median=0.2, worst=0.35)
    tpot.within(median=0.15, worst=0.3)


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_is_always_full_is_the_limit_of_many_at_once(setting: Setting) -> None:
    one, answer = setting.replica(), float(setting.answer)
    endless = saturated(one, answer)
    many = all_at_once(one, answer, np.array(float(one.most) * 10_000))
    assert many.requests_per_s == pytest.approx(float(endless.requests_per_s), rel=1e-3)
    assert many.tpot_s == pytest.approx(float(endless.tpot_s), rel=0.02)
    assert np.isnan(endless.ttft_s)


@pytest.mark.parametrize("setting", SETTINGS)
def test_waiting_grows_with_the_rate(setting: Setting) -> None:
    one, answer = setting.replica(), float(setting.answer)
    rates = most_per_s(one, answer) * np.linspace(0.01, 0.99, 50)
    forms = [poisson(one, answer, np.array(rate)) for rate in rates]
    assert np.all(np.diff([float(form.ttft_s) for form in forms]) >= 0)
    assert np.all(np.diff([float(form.tpot_s) for form in forms]) >= -1e-12)
    assert float(forms[0].ttft_s) == pytest.approx(float(one.alone_s), rel=0.2)


def test_an_infinite_rate_is_all_at_once() -> None:
    one = SETTINGS[1].replica()
    answer, count = float(SETTINGS[1].answer), np.array(640.0)
    together = all_at_once(one, answer, count)
    rushed = poisson(one, answer, np.array(1e9), count)
    assert rushed.queued_s == pytest.approx(float(together.queued_s), rel=0.02)
