"""Bands cover what they say on groups that they never saw; wider levels are wider."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration.intervals import (
    LEVEL,
    Residuals,
    bands,
    needed,
    pool,
    residuals,
    weighted_quantiles,
    widening,
)
from calibration.problem import METRICS


def _grouped(seed: int, groups: int, rows: int, between: float, within: float) -> Residuals:
    rng = np.random.default_rng(seed)
    shift = between * rng.standard_normal(groups)
    values = (shift[:, None] + within * rng.standard_normal((groups, rows))).ravel()
    names = np.repeat([f"m{index}" for index in range(groups)], rows)
    return Residuals(values, names)


@pytest.mark.parametrize(("between", "within"), [(0.0, 0.1), (0.1, 0.05), (0.2, 0.02)])
def test_coverage_on_unseen_groups_is_nominal(between: float, within: float) -> None:
    several = [_grouped(seed, 10, 12, between, within) for seed in range(20)]
    factor = widening(several)
    fresh = [_grouped(1000 + seed, 10, 12, between, within) for seed in range(20)]
    covered = np.mean(np.concatenate([needed(own) for own in fresh]) <= factor)
    assert covered == pytest.approx(LEVEL, abs=0.05)


def test_bands_widen_with_the_level() -> None:
    own = _grouped(1, 9, 20, 0.1, 0.1)
    widths = [np.ptp(weighted_quantiles(own.values, own.groups, x)) for x in (0.5, 0.8, 0.9, 0.99)]
    assert widths == sorted(widths)


@settings(max_examples=40, deadline=None)
@given(st.floats(1.0, 4.0), st.integers(0, 1000))
def test_bands_widen_with_the_factor_and_hold_one(factor: float, seed: int) -> None:
    own = [_grouped(seed + i, 6, 5, 0.1, 0.1) for i in range(3)]
    narrow = bands(own, {}, dict.fromkeys(METRICS, 1.0))
    wide = bands(own, {}, dict.fromkeys(METRICS, factor))
    for small, large in zip(narrow, wide, strict=True):
        assert large.low <= small.low < 1.0 < small.high <= large.high
        assert large.coverage >= small.coverage


def test_every_group_weighs_alike_however_many_rows_it_has() -> None:
    many = Residuals(np.array([1.0] * 99 + [-1.0]), np.array(["a"] * 99 + ["b"]))
    low, high = weighted_quantiles(many.values, many.groups, 0.9)
    assert (low, high) == (-1.0, 1.0)


def test_groups_that_all_err_to_one_side_do_not_forbid_the_other() -> None:
    own = Residuals(np.full(40, 0.3), np.repeat([f"m{i}" for i in range(8)], 5))
    band = bands([own], {}, {METRICS[0]: 1.0}) if len(METRICS) == 1 else bands(
        [own] * len(METRICS), {}, dict.fromkeys(METRICS, 1.0)
    )  # fmt: skip
    assert band[0].low < 0.95
    assert np.isfinite(needed(own)).all()
    assert needed(Residuals(-own.values[:20], own.groups[:20])).max() < 10


def test_few_models_borrow_from_all() -> None:
    lone = Residuals(np.array([0.01, -0.01]), np.array(["a", "a"]))
    everyone = pool([("x", _grouped(3, 9, 5, 0.2, 0.1)), ("y", _grouped(4, 9, 5, 0.2, 0.1))])
    assert len(np.unique(everyone.groups)) == 18, "a model on another system is another group"
    made = bands([lone] * 3, dict.fromkeys(METRICS, everyone), dict.fromkeys(METRICS, 1.0))
    assert all(band.groups == 18 for band in made)
    assert made[0].high > 1.1


def test_what_was_not_measured_or_not_held_out_is_no_residual() -> None:
    predicted = np.array([[1.0, np.nan, 2.0], [2.0, 1.0, np.nan]])
    observed = np.array([[np.nan, 1.0, 4.0], [1.0, 1.0, 1.0]])
    found = residuals(predicted, observed, np.array(["a", "b"]))
    assert [entry.values.tolist() for entry in found] == [[np.log(0.5)], [0.0], [np.log(2.0)]]
