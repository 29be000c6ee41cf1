"""Baselines and held-out ways on data whose truth is one efficiency per system."""

from __future__ import annotations

import numpy as np
import pytest
from made_up_corpus import MODELS, NOISE, TRUTH

from analyzer.timing.rates import Rates
from calibration.nearest import nearest, neighbours
from calibration.one_factor import OneFactor
from calibration.problem import predict
from calibration.scored import (
    DEFAULT,
    FACTOR,
    FACTOR_OUT,
    OURS,
    OURS_OUT,
    SCALED,
    UNSEEN,
)
from calibration.tally import tally
from reports.validate.baselines import baselines
from reports.validate.groups import eligible, group_table, headline
from reports.validate.pick import fixed, rows
from reports.validate.reliability import LEVELS, curves
from reports.validate.worst import worst


def test_every_way_has_the_shape_of_the_measurements(scored):
    for one in scored:
        for way, predicted in one.predicted.items():
            assert predicted.shape == one.measured.shape, way


def test_one_factor_is_recovered(scored):
    for one in scored:
        factor = OneFactor(one.group.problem)
        best = factor.efficiencies[factor.best(np.ones(len(one.models), dtype=bool))]
        assert best == pytest.approx(TRUTH[one.key[0]], rel=0.02)


def test_one_factor_interpolates_what_the_model_says(scored):
    problem = scored[0].group.problem
    factor = OneFactor(problem)
    for index in (40, 133, 301):
        exact = predict(problem, Rates.single(float(factor.efficiencies[index])))
        assert np.exp(factor.times[index]) == pytest.approx(exact, rel=0.01)


def test_a_held_out_model_does_not_touch_its_own_prediction(scored):
    problem = scored[0].group.problem
    honest = OneFactor(problem).held_out()
    mine = problem.groups == MODELS[0]
    observed = problem.observed.copy()
    observed[mine] *= 7.0
    disturbed = OneFactor(problem._replace(observed=observed)).held_out()
    assert disturbed[mine] == pytest.approx(honest[mine])
    assert not np.allclose(disturbed[~mine], honest[~mine])
    assert np.array_equal(
        neighbours(problem._replace(observed=observed))[mine], neighbours(problem)[mine]
    )


def test_neighbours_are_of_other_models_and_as_near_as_any(scored):
    problem = scored[0].group.problem
    which = neighbours(problem)
    assert (problem.groups[which] != problem.groups[:, None]).all()
    for row, case in enumerate(problem.cases):
        near = problem.cases[which[row, 0]].workload
        assert (near.batch, near.input_tokens) == (case.workload.batch, case.workload.input_tokens)


def test_scaled_neighbours_beat_copied_ones_where_one_efficiency_is_the_truth(scored):
    copied, scaled = nearest(scored[0].group.problem)
    measured = scored[0].measured
    assert tally(scaled, measured).geomean < tally(copied, measured).geomean
    assert tally(scaled, measured).geomean < 2 * NOISE


def test_ours_comes_to_the_noise_and_the_default_does_not(scored):
    for metric in ("ttft_s", "tpot_s", "e2e_s"):
        assert rows(scored, OURS, metric).tally.geomean < 1.5 * NOISE
        assert rows(scored, OURS_OUT, metric).tally.geomean < 2 * NOISE
        assert rows(scored, DEFAULT, metric).tally.geomean > 5 * NOISE
        assert rows(scored, UNSEEN, metric).tally.geomean < rows(scored, DEFAULT, metric).tally.mape


def test_beyond_is_scored_only_above_the_median(scored):
    for one in scored:
        for name, of in (("longer", "input_tokens"), ("larger batches", "batch")):
            values = np.array([getattr(c.workload, of) for c in one.group.problem.cases])
            answered = np.isfinite(one.predicted[name]).any(axis=1)
            assert (answered == (values > np.median(values))).all()
        assert np.isnan(one.predicted["more devices"]).all()


def test_groups_of_the_headline_come_best_first_and_two_make_no_headline(scored):
    entries = eligible(scored, "e2e_s", fixed)
    assert len(entries) == 2
    assert entries[0].error <= entries[1].error
    assert headline(scored).tables[0].rows == ()
    line = headline([*scored, *scored]).tables[0].rows[0]
    assert line[5] <= line[3] <= line[6]


def test_groups_table_has_a_line_per_group_and_metric(scored):
    made = group_table(scored)
    assert len(made.rows) == 6
    assert {row[4] for row in made.rows} == {36}
    assert {row[5] for row in made.rows} == {len(MODELS)}


def test_baselines_score_every_way_on_the_same_rows(scored):
    made = baselines(scored).tables[0]
    assert {row[1] for row in made.rows} == {72}
    assert [row[0] for row in made.rows][-1] == OURS_OUT
    assert {FACTOR, FACTOR_OUT, SCALED} <= {row[0] for row in made.rows}


def test_coverage_grows_with_the_level_and_so_does_the_width(scored):
    for curve in curves(scored):
        assert len(curve.covered) == len(LEVELS)
        assert list(curve.half_width) == sorted(curve.half_width)
        assert curve.covered[-1] > 0.7


def test_worst_cases_are_one_per_group_and_model_and_say_why(scored):
    made = worst(scored).tables[0]
    assert len(made.rows) == len(MODELS) * 2
    assert all(row[-1] for row in made.rows)
