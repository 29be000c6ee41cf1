"""Summaries against independent oracles, and the comparison's four verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from profilers import stats

samples = st.lists(st.floats(1e-7, 10.0), min_size=1, max_size=80)


@given(samples)
def test_quantiles_spread_and_mean_agree_with_numpy(values):
    summary = stats.summarise(values)
    assert summary.median_s == pytest.approx(np.median(values))
    assert summary.p10_s == pytest.approx(np.percentile(values, 10))
    assert summary.p90_s == pytest.approx(np.percentile(values, 90))
    assert summary.mean_s == pytest.approx(np.mean(values))
    expected = np.std(values, ddof=1) if len(values) > 1 else 0.0
    assert summary.stdev_s == pytest.approx(expected, abs=1e-12)
    assert summary.mad_s == pytest.approx(scipy_stats.median_abs_deviation(values))
    assert summary.ci_low_s <= summary.median_s <= summary.ci_high_s


@pytest.mark.parametrize("count", [1, 5, 6, 10, 31, 100, 499])
def test_median_interval_is_the_narrowest_that_covers_95_percent(count):
    low, high, coverage = stats.median_ranks(count)
    below = scipy_stats.binom(count, 0.5).cdf(low)
    assert coverage == pytest.approx(1 - 2 * below)
    assert low + high == count - 1
    if count >= 6:
        assert coverage >= 0.95
        narrower = 1 - 2 * scipy_stats.binom(count, 0.5).cdf(low + 1)
        assert narrower < 0.95 or low + 1 >= count // 2


def test_many_samples_use_the_normal_ranks():
    low, high, coverage = stats.median_ranks(10_000)
    exact = 1 - 2 * scipy_stats.binom(10_000, 0.5).cdf(low)
    assert low + high == 9_999
    assert coverage == 0.95
    assert exact == pytest.approx(0.95, abs=0.002)


def test_interval_of_the_median_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(7)
    hits = 0
    for _ in range(400):
        summary = stats.summarise(list(rng.exponential(1.0, 25)))
        hits += summary.ci_low_s <= np.log(2) <= summary.ci_high_s
    assert 0.92 <= hits / 400 <= 0.99


def test_outliers_are_counted_and_kept():
    values = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06, 1.07, 1.08, 5.0]
    summary = stats.summarise(values)
    assert (summary.outliers_mild, summary.outliers_severe) == (0, 1)
    assert summary.count == 10
    assert summary.max_s == 5.0


def test_nothing_has_no_summary():
    with pytest.raises(ValueError, match="no samples"):
        stats.summarise([])


@pytest.mark.parametrize(
    ("before", "after", "verdict"),
    [
        ([1.0, 1.001, 0.999] * 5, [1.002, 1.001, 1.0] * 5, "same"),
        ([1.0, 1.001, 0.999] * 5, [0.8, 0.801, 0.799] * 5, "faster"),
        ([1.0, 1.001, 0.999] * 5, [1.2, 1.201, 1.199] * 5, "slower"),
        ([1.0, 1.5, 0.7], [1.1, 0.8, 1.6], "ambiguous"),
    ],
)
def test_comparison_has_four_verdicts(before, after, verdict):
    assert stats.compare(stats.summarise(before), stats.summarise(after)) == verdict
