"""Known rates come back from the times that they make, and what data cannot tell is said so."""

from __future__ import annotations

import numpy as np
import pytest
from calibration_synthetic import TRUTH, measured, scenarios
from scipy.optimize import least_squares

from analyzer.timing.rates import Rates
from calibration.export import fitted_rates
from calibration.fit import Fit, fit
from calibration.holdout import geomean_error
from calibration.parameters import LINEAR, Prior, selected
from calibration.problem import Problem, build, predict
from calibration.relevant import relevant

SYSTEMS = {
    "A100-SXM-80GB": (1, 8, 32),
    "RTX3090": (1, 4),
    "MI300X": (1, 8, 32),
}
MODELS = ("llama-2-7b", "llama-3-8b", "qwen2.5-1.5b", "mistral-7b")


def _fitted(problem: Problem) -> Fit:
    return fit(problem, selected(relevant(problem)), Rates.default())


def _scale(entry: Prior, rates: Rates = TRUTH) -> float:
    value = float(getattr(rates, entry.name))
    return value if entry.name in LINEAR else float(np.log(value))


@pytest.mark.parametrize("system", SYSTEMS)
def test_rates_come_back_within_their_intervals(system: str) -> None:
    problem = measured(scenarios(system, MODELS, batches=SYSTEMS[system]), noise=0.02, seed=1)
    found = _fitted(problem)
    apart = [
        abs(x - _scale(entry)) / deviation
        for entry, x, deviation in zip(found.priors, found.point, found.deviation, strict=True)
    ]
    assert max(apart) < 2.5, dict(zip([p.name for p in found.priors], apart, strict=True))
    clean = measured(scenarios(system, MODELS, batches=SYSTEMS[system]), noise=0.0)
    assert geomean_error(predict(clean, found.rates), clean.observed) < 0.01


def test_what_decides_time_is_found_closely() -> None:
    problem = measured(scenarios("A100-SXM-80GB", MODELS), noise=0.02, seed=3)
    rates = _fitted(problem).rates
    for name, within in {"gemm_eff_16": 0.03, "mem_eff": 0.05, "kv_eff": 0.06}.items():
        assert getattr(rates, name) == pytest.approx(getattr(TRUTH, name), rel=within), name


def test_outliers_hardly_move_rates() -> None:
    asked = scenarios("A100-SXM-80GB", MODELS)
    without = _fitted(measured(asked, noise=0.02, seed=5)).rates
    wild = _fitted(measured(asked, noise=0.02, seed=5, outliers=0.02)).rates
    for name in ("gemm_eff_16", "mem_eff"):
        assert getattr(wild, name) == pytest.approx(getattr(without, name), rel=0.05), name
    clean = measured(asked, noise=0.0)
    assert geomean_error(predict(clean, wild), clean.observed) < 0.02


def _with_only(problem: Problem, metric: int) -> Problem:
    cases = []
    for case in problem.cases:
        kept = [float("nan")] * 3
        kept[metric] = case.observed[metric]
        cases.append(case._replace(observed=(kept[0], kept[1], kept[2])))
    return build(cases, problem.machine)


@pytest.mark.parametrize(
    ("metric", "told", "untold"),
    [(0, "gemm_eff_16", "mem_eff"), (1, "mem_eff", "prefill_s")],
    ids=["prefill only", "decode only"],
)
def test_one_phase_cannot_tell_the_rates_of_the_other(metric: int, told: str, untold: str) -> None:
    asked = scenarios("A100-SXM-80GB", MODELS, batches=(1, 8), inputs=(1024, 3072), tps=(1,))
    found = _fitted(_with_only(measured(asked, seed=2), metric))
    rates = fitted_rates(found)
    assert rates[told].identified
    assert rates[told].data_share > 0.9
    assert not rates[untold].identified
    assert rates[untold].data_share < 0.2


def test_more_data_narrow_intervals() -> None:
    few = _fitted(measured(scenarios("A100-SXM-80GB", MODELS[:1], batches=(1,), tps=(1,))))
    many = _fitted(measured(scenarios("A100-SXM-80GB", MODELS, tps=(1,))))
    names = [entry.name for entry in few.priors]
    assert names == [entry.name for entry in many.priors] or set(names) <= {
        entry.name for entry in many.priors
    }
    wide = dict(zip(names, few.deviation, strict=True))
    narrow = dict(zip([p.name for p in many.priors], many.deviation, strict=True))
    for name in ("gemm_eff_16", "mem_eff", "kv_eff", "step_s"):
        assert narrow[name] < wide[name], name


def test_without_any_measurement_the_prior_stays() -> None:
    asked = scenarios("A100-SXM-80GB", MODELS[:1], batches=(1,), inputs=(128,), tps=(1,))
    problem = measured(asked)
    nothing = np.zeros(len(problem.cases), dtype=bool)
    found = fit(problem, selected(relevant(problem)), Rates.default(), rows=nothing)
    assert found.point == pytest.approx([entry.centre for entry in found.priors], abs=1e-4)
    assert np.all(found.data_share < 1e-9)


def test_the_least_squares_underneath_solves_a_certified_problem() -> None:
    """NIST StRD Misra1a: y = b1 (1 − exp(−b2 x)), certified to eleven digits."""
    x = np.array(
        [77.6, 114.9, 141.1, 190.8, 239.9, 289.0, 332.8, 378.4, 434.8, 477.3, 536.8, 593.1, 689.1,
         760.0]
    )  # fmt: skip
    y = np.array(
        [10.07, 14.73, 17.94, 23.93, 29.61, 35.18, 40.02, 44.82, 50.76, 55.05, 61.01, 66.40, 75.47,
         81.78]
    )  # fmt: skip

    def misses(b: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(b[0]) * (1 - np.exp(-np.exp(b[1]) * x)) - y)

    solved = least_squares(misses, np.log([500.0, 1e-4]), xtol=1e-14, ftol=1e-14, gtol=1e-14)
    assert np.exp(solved.x) == pytest.approx([238.94212918, 5.5015643181e-4], rel=1e-7)
    assert 2 * solved.cost == pytest.approx(0.12455138894, rel=1e-8)
