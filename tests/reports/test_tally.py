"""Statistics of the report against what they are defined to be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.tally import clusters, median_interval, tally

RATIOS = st.lists(st.floats(0.1, 10.0), min_size=1, max_size=30)


def test_twice_too_fast_and_twice_too_slow_weigh_the_same():
    measured = np.ones(2)
    assert tally(np.array([2.0, 0.5]), measured).geomean == pytest.approx(1.0)
    assert tally(np.array([2.0, 0.5]), measured).bias == pytest.approx(0.0)
    assert tally(np.array([2.0, 0.5]), measured).mape == pytest.approx(0.75)


@given(RATIOS)
def test_a_perfect_predictor_has_no_error_and_scale_does_not_matter(ratios):
    predicted = np.array(ratios)
    assert tally(predicted, predicted).geomean == pytest.approx(0.0)
    one, other = (
        tally(predicted, np.ones(len(ratios))),
        tally(3 * predicted, 3 * np.ones(len(ratios))),
    )
    assert one == pytest.approx(other)
    assert abs(one.bias) <= one.geomean + 1e-12 or one.bias < 0


def test_what_either_lacks_is_not_counted():
    found = tally(np.array([1.0, np.nan, 3.0]), np.array([1.0, 1.0, np.nan]))
    assert found.rows == 1
    nothing = tally(np.array([np.nan]), np.array([1.0]))
    assert nothing.rows == 0
    assert np.isnan(nothing.geomean)


def test_a_single_hit_cannot_pull_the_geomean_of_errors_to_nothing():
    found = tally(np.array([1.0, 1.1]), np.ones(2))
    assert found.geomean_of_errors == pytest.approx(np.sqrt(1e-4 * 0.1))


def test_clusters_add_up_to_the_error_of_all_rows():
    rng = np.random.default_rng(0)
    predicted, models = np.exp(rng.normal(size=40)), np.repeat(["a", "b", "c", "d"], 10)
    found = clusters(predicted, np.ones(40), models)
    assert found.rows.tolist() == [10, 10, 10, 10]
    whole = np.expm1(found.total.sum() / found.rows.sum())
    assert whole == pytest.approx(tally(predicted, np.ones(40)).geomean)


def test_the_interval_holds_the_median_and_is_the_same_every_time():
    rng = np.random.default_rng(1)
    groups = [
        clusters(np.exp(rng.normal(0, 0.1, 20)), np.ones(20), np.repeat(list("abcde"), 4))
        for _ in range(9)
    ]
    errors = [np.expm1(g.total.sum() / g.rows.sum()) for g in groups]
    low, high = median_interval(groups)
    assert low < np.median(errors) < high
    assert median_interval(groups) == (low, high)
