"""Few points of one's own: well chosen they teach more, and what they teach is used."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from calibration_synthetic import TRUTH, measured, scenarios

from analyzer.errors import CapacityError, ConfigError, InputError
from analyzer.systems_catalog import load_system
from calibration.candidates import COLUMNS, arrival_of, candidates, plan_rows
from calibration.corpus import read_perf_dir
from calibration.holdout import geomean_error
from calibration.own import FIXED, beliefs_in, learn, own_priors
from calibration.problem import Problem, build, predict
from calibration.relevant import relevant
from calibration.run import shipped_beliefs
from calibration.suggest import design, uncertainty

SYSTEM = "A100-SXM-80GB"


def _problem(**choice: object) -> Problem:
    asked = scenarios(SYSTEM, ("llama-3-8b",), (1, 4, 16), (128, 512, 2048), (1, 2, 4), **choice)  # type: ignore[arg-type]
    return measured(asked, noise=0.02, seed=8)


def _priors(problem: Problem):  # type: ignore[no-untyped-def]
    return own_priors(relevant(problem), {}, FIXED.rates)


def _part(problem: Problem, chosen: list[int]) -> Problem:
    return build([problem.cases[index] for index in chosen], problem.machine)


def _error_elsewhere(problem: Problem, chosen: list[int]) -> float:
    rest = [index for index in range(len(problem.cases)) if index not in chosen]
    own = learn(_part(problem, chosen), _priors(problem))
    others = _part(problem, rest)
    return geomean_error(own.predict(others), others.observed)


def test_points_teach_what_they_measured_and_more() -> None:
    problem = _problem()
    priors = _priors(problem)
    chosen = list(design(problem, priors, 6).chosen)
    own = learn(_part(problem, chosen), priors)
    mine = _part(problem, chosen)
    assert geomean_error(own.predict(mine), mine.observed) < 0.03
    before = learn(build([c._replace(observed=(np.nan,) * 3) for c in mine.cases], mine.machine),
                   priors)  # fmt: skip
    rest = [index for index in range(len(problem.cases)) if index not in chosen]
    others = _part(problem, rest)
    untaught = geomean_error(before.predict(others), others.observed)
    assert geomean_error(own.predict(others), others.observed) < 0.3 * untaught


def test_an_entry_that_nobody_believes_is_set_aside_and_others_are_not() -> None:
    """A server was full for half a minute while one of eight points was measured."""
    problem = _problem()
    chosen = list(design(problem, _priors(problem), 8).chosen)
    clean = _part(problem, chosen)
    assert learn(clean, _priors(problem)).aside == ()
    observed = clean.observed.copy()
    observed[3, 0] *= 40.0
    own = learn(clean._replace(observed=observed), _priors(problem))
    assert own.aside == ((3, 0),)
    others = _part(problem, [i for i in range(len(problem.cases)) if i not in chosen])
    assert geomean_error(own.predict(others), others.observed) < 0.1


def test_of_few_points_every_one_is_believed() -> None:
    problem = _problem()
    part = _part(problem, [0, 5])
    observed = part.observed * np.array([[40.0, 1.0, 1.0], [1.0, 1.0, 1.0]])
    assert learn(part._replace(observed=observed), _priors(problem)).aside == ()


def test_chosen_points_teach_more_than_bunched_ones() -> None:
    problem = _problem()
    chosen = list(design(problem, _priors(problem), 6).chosen)
    bunched = [i for i, case in enumerate(problem.cases) if case.plan.tp == 1][:6]
    assert _error_elsewhere(problem, chosen) < 0.7 * _error_elsewhere(problem, bunched)


def test_the_search_is_close_to_the_best_of_all_choices() -> None:
    """Against every pair of a small grid, by the variance that the design minimises."""
    asked = scenarios(SYSTEM, ("llama-3-8b",), (1, 16), (128, 2048), (1, 2))
    problem = measured(asked)
    priors = _priors(problem)
    known = uncertainty(problem, priors, FIXED)
    noise = np.diag(np.tile(FIXED.noise[:2] ** 2, 2))
    weights = np.tile([0.5, 1.0], len(problem.cases))

    def left(pair: tuple[int, ...]) -> float:
        rows = [2 * index + metric for index in pair for metric in (0, 1)]
        inner = known[np.ix_(rows, rows)] + noise
        gone = np.einsum("ij,ji->i", known[:, rows], np.linalg.solve(inner, known[rows]))
        return float(weights @ (np.diag(known) - gone))

    best = min(map(left, combinations(range(len(problem.cases)), 2)))
    assert left(design(problem, priors, 2).chosen) <= 1.02 * best


def test_more_points_narrow_the_interval_and_none_is_taken_twice() -> None:
    problem = _problem()
    made = [design(problem, _priors(problem), count) for count in (1, 3, 6)]
    for one in made:
        assert len(set(one.chosen)) == len(one.chosen)
        assert (one.after < one.before).all()
    tpot = [one.after[1] for one in made]
    assert tpot == sorted(tpot, reverse=True)


def test_points_measured_already_are_not_asked_for_again() -> None:
    problem = _problem()
    first = design(problem, _priors(problem), 3)
    more = design(problem, _priors(problem), 3, fixed=first.chosen)
    assert not set(first.chosen) & set(more.chosen)
    assert (more.after < first.after).all()


def test_priors_are_around_what_is_known_and_wider() -> None:
    known = next(iter(shipped_beliefs().values()))
    for prior in own_priors(known, dict(known), 0.4):
        assert prior.centre == known[prior.name].point
        assert prior.width >= known[prior.name].deviation


def test_a_calibration_file_says_what_the_fit_believed() -> None:
    from analyzer.calibrated import find

    found = find(SYSTEM, "vllm-v0").calibration
    assert found is not None
    believed = beliefs_in(found)
    assert np.exp(believed["mem_eff"].point) == pytest.approx(found.rates["mem_eff"].value)


def test_candidates_fit_the_memory_and_the_machine() -> None:
    system = load_system("RTX3090")
    offered = candidates(system, "RTX3090", "vllm", ["llama-3-8b"], devices=2)
    assert {scenario.tp for scenario in offered.scenarios} == {1, 2}
    assert len(offered.scenarios) == len(offered.problem.cases)
    largest = max((s.concurrency or 0) * ((s.input_tokens or 0) + (s.output_tokens or 0))
                  for s in offered.scenarios)  # fmt: skip
    cache_B = 2 * 32 * 8 * 128 * 2 * largest
    assert cache_B < 2 * system.device.memory_B


def test_what_cannot_run_at_all_is_refused_in_one_line() -> None:
    with pytest.raises(CapacityError, match="llama-3-70b does not fit"):
        candidates(load_system("RTX3090"), "RTX3090", "vllm", ["llama-3-70b"], devices=1)
    with pytest.raises(ConfigError, match="at least 1"):
        candidates(load_system("RTX3090"), "RTX3090", "vllm", ["llama-3-8b"], devices=0)


def test_a_plan_filled_in_comes_back_as_measurements(tmp_path) -> None:  # type: ignore[no-untyped-def]
    offered = candidates(load_system(SYSTEM), SYSTEM, "vllm", ["llama-3-8b"], "fp16", devices=1)
    rows = plan_rows(offered.scenarios[:3])
    times = predict(_part(offered.problem, [0, 1, 2]), TRUTH)
    lines = [",".join(COLUMNS)]
    for row, (ttft, tpot, e2e) in zip(rows, times, strict=True):
        row |= {"ttft_ms": f"{1e3 * ttft}", "tpot_ms": f"{1e3 * tpot}", "e2e_ms": f"{1e3 * e2e}"}
        lines.append(",".join(row.values()))
    path = tmp_path / "plan.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    found = read_perf_dir(path, {"hardware": SYSTEM})
    assert [record.scenario.input_tokens for record in found.records] == [
        scenario.input_tokens for scenario in offered.scenarios[:3]
    ]
    assert found.records[0].metrics["ttft_s"] == pytest.approx(times[0, 0])


def test_a_plan_not_filled_in_is_refused(tmp_path) -> None:  # type: ignore[no-untyped-def]
    offered = candidates(load_system(SYSTEM), SYSTEM, "vllm", ["llama-3-8b"], "fp16", devices=1)
    path = tmp_path / "plan.csv"
    row = plan_rows(offered.scenarios[:1])[0]
    path.write_text(f"{','.join(row)}\n{','.join(row.values())}\n", encoding="utf-8")
    with pytest.raises(InputError, match="no figure"):
        read_perf_dir(path, {"hardware": SYSTEM})


def test_a_system_that_serves_is_asked_for_serving() -> None:
    from analyzer.calibrated import find

    assert arrival_of(find("H200-SXM", "vllm-v1").calibration) == "closed_loop"
    assert arrival_of(find(SYSTEM, "vllm-v0").calibration) == "static"
    assert arrival_of(None) == "static"
