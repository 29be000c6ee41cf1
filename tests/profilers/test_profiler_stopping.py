"""Every clause of the stopping rule and of the warm-up test."""

from __future__ import annotations

import itertools
import random

import pytest

from profilers.stopping import Rules, StopRule, is_warm


def feed(rule: StopRule, values, limit=100_000):
    for value in itertools.islice(values, limit):
        rule.add(value)
        reason = rule.reason()
        if reason:
            return reason
    return None


def noisy(centre, spread, seed=1):
    rng = random.Random(seed)  # noqa: S311
    while True:
        yield max(1e-9, rng.gauss(centre, spread * centre))


def test_quiet_samples_end_by_noise_once_count_and_time_suffice():
    rule = StopRule(Rules(min_samples=10, min_time_s=0.5))
    assert feed(rule, itertools.repeat(0.01)) == "noise"
    assert rule.count == 50


def test_never_fewer_than_min_samples_however_long_they_are():
    rule = StopRule(Rules(min_samples=10, min_time_s=0.5))
    assert feed(rule, itertools.repeat(2.0)) == "noise"
    assert rule.count == 10


def test_measured_time_counts_the_calls_within_a_sample():
    rule = StopRule(Rules(min_samples=3, min_time_s=0.5))
    for _ in range(3):
        rule.add(1e-5, calls=100_000)
    assert rule.measured_s == pytest.approx(3.0)
    assert rule.reason() == "noise"


def test_constant_noise_above_the_limit_ends_as_stable_noise():
    rule = StopRule(Rules(min_time_s=0.1, max_noise=0.005))
    assert feed(rule, noisy(0.001, 0.05)) == "stable_noise"
    assert rule.count > 64
    assert rule.count % 16 == 0
    assert rule.noise == pytest.approx(0.05, rel=0.3)


def test_noise_that_keeps_growing_runs_into_the_sample_cap():
    growing = (0.001 * 1.05**index for index in itertools.count())
    rule = StopRule(Rules(min_time_s=0.01, stable_noise=0.0, max_samples=400))
    assert feed(rule, growing) == "sample_cap"
    assert rule.count == 400


def test_the_running_noise_is_the_unbiased_relative_deviation():
    import numpy as np

    values = list(itertools.islice(noisy(0.002, 0.1), 40))
    rule = StopRule(Rules())
    for value in values:
        rule.add(value)
    assert rule.noise == pytest.approx(np.std(values, ddof=1) / np.mean(values))


def test_zero_durations_never_look_settled():
    rule = StopRule(Rules(min_samples=2, min_time_s=0.0, max_samples=5))
    assert feed(rule, itertools.repeat(0.0)) == "sample_cap"


@pytest.mark.parametrize(
    ("values", "warm"),
    [
        ([1.0] * 20, True),
        ([1.0, 1.002, 0.999, 1.001] * 5, True),
        ([9.0] + [1.0, 1.001] * 10, False),  # the first value is an outlier
        ([1.5 - 0.03 * index for index in range(20)], False),  # still speeding up
        ([0.4] * 10 + [1.0] * 10, False),  # slowing down by more than half
        ([1.0, 1.2] * 5 + [1.0, 1.0] * 5, False),  # upper quartiles differ
        ([0.7, 1.0, 1.0, 1.0, 1.3, 0.99, 1.01, 1.0] + [1.0] * 8, True),
        ([0.99, 1.01, 0.98, 1.02, 0.97, 1.03, 0.99, 1.01] + [1.0] * 8, False),  # spread differs
        ([1.0, 1.0, 1.0], False),  # too few to tell
    ],
)
def test_warm_means_no_drift(values, warm):
    assert is_warm(values) is warm
