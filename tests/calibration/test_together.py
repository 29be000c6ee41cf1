"""Closed loops of several systems fitted at once."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from calibration_synthetic import TRUTH, measured, scenarios
from scipy.optimize import minimize

from analyzer.kinship import kin
from analyzer.priors import GENERIC
from analyzer.records_arrival import Arrival
from analyzer.systems_catalog import load_system
from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.population_solve import Part, minimise
from calibration.problem import build
from calibration.rounds import first_round, second_round
from calibration.together import fit_together, looped

HERE, THERE, AWAY = "H100-SXM", "H200-SXM", "A100-SXM-80GB"
NOBODY = kin([])
PLENTY = 60


def served(system: str, models: tuple[str, ...], truth: Rates = TRUTH, seed: int = 1) -> Group:
    """A synthetic closed loop."""
    loop = Arrival(kind="closed_loop")
    asked = scenarios(system, models, batches=(2, 16, 64), inputs=(256, 2048), tps=(1,))
    asked = [
        msgspec.structs.replace(one, arrival=loop, engine_version="0.9.0", variant="")
        for one in asked
    ]
    problem = measured(asked, truth=truth, noise=0.02, seed=seed)
    return Group(load_system(system), "vllm-v1", problem, ())


def keyed(*groups: Group) -> dict[Key, Group]:
    return {group.key: group for group in groups}


def test_a_group_with_rows_enough_keeps_its_rates_and_one_without_takes_its_kins() -> None:
    """What H100 and H200 do is told to A100, whose rows are all left out."""
    fast = TRUTH.with_values(mem_eff=0.9, interference=1.0, burst=0.05)
    groups = keyed(
        served(HERE, ("llama-3-8b", "llama-2-7b"), fast),
        served(THERE, ("llama-3-8b", "llama-2-7b"), fast, seed=2),
        served(AWAY, ("llama-3.2-3b",), fast, seed=3),
    )
    found = fit_together(groups, NOBODY, without=("llama-3.2-3b",), effort=PLENTY)
    told, guessed = found[HERE, "vllm-v1"], found[AWAY, "vllm-v1"]
    assert told.rates.mem_eff == pytest.approx(0.9, rel=0.06)
    assert guessed.rates.mem_eff == pytest.approx(told.rates.mem_eff, rel=0.05)
    assert guessed.data_share.max() < 1e-9
    at = [prior.name for prior in told.priors].index("mem_eff")
    assert told.data_share[at] > 0.2
    assert guessed.deviation[at] > told.deviation[at]


def test_a_model_left_out_changes_nothing_by_what_it_measured() -> None:
    groups = keyed(served(HERE, ("llama-3-8b", "llama-3.2-3b")), served(THERE, ("llama-3.2-3b",)))
    changed = {}
    for key, group in groups.items():
        cases = [
            case._replace(observed=(9.0, 9.0, 9.0)) if case.group == "llama-3.2-3b" else case
            for case in group.problem.cases
        ]
        changed[key] = group._replace(problem=build(cases, group.problem.machine))
    before, after = (fit_together(one, NOBODY, ("llama-3.2-3b",)) for one in (groups, changed))
    for key in groups:
        assert np.array_equal(before[key].point, after[key].point)


def test_in_the_second_round_every_model_of_a_closed_loop_is_held_out() -> None:
    groups = keyed(served(HERE, ("llama-3-8b", "llama-2-7b")), served(THERE, ("llama-3-8b",)))
    assert all(looped(group) for group in groups.values())
    done = second_round(groups, first_round(groups))
    here, there = done[HERE, "vllm-v1"], done[THERE, "vllm-v1"]
    missed = np.abs(np.log(here.held_out.predicted / groups[HERE, "vllm-v1"].problem.observed))
    assert np.median(missed[:, 0]) < 0.2
    assert missed[:, 1].max() < 0.2
    assert sorted(here.held_out.fits) == ["llama-2-7b", "llama-3-8b"]
    assert np.isnan(there.held_out.predicted).all(), "its only model"


def bowl(point: np.ndarray) -> np.ndarray:
    return np.array([3.0 * (point[0] - 1.0), 2.0 * np.sin(point[1]) - 1.0, point[0] * point[1]])


def line(point: np.ndarray) -> np.ndarray:
    return np.array([np.exp(point[0]) - 5.0, 0.0])


def test_the_solver_finds_what_a_search_without_derivatives_finds() -> None:
    parts = [Part(bowl, slice(0, 2)), Part(line, slice(2, 3))]
    precision = np.array([[2.0, 0.0, -1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 2.0]])
    centre, low, high = np.zeros(3), np.full(3, -2.0), np.array([2.0, 2.0, 1.2])
    found = minimise(parts, centre, precision, (low, high), centre, 100)

    def cost(point: np.ndarray) -> float:
        missed = np.concatenate((bowl(point[:2]), line(point[2:])))
        return float(2.0 * (np.sqrt(1.0 + missed**2) - 1.0).sum() + point @ precision @ point)

    ends = list(zip(low, high, strict=True))
    sought = minimize(cost, centre, method="Nelder-Mead", bounds=ends, options={"maxiter": 4000})
    assert found.cost == pytest.approx(sought.fun, rel=1e-3)
    assert found.point == pytest.approx(sought.x, abs=0.02)


def test_what_one_architecture_alone_says_of_an_engine_is_believed_up_to_half_a_width() -> None:
    """Bandwidth at 0.12 of the peak, seven widths off: said by one architecture, and by two."""
    slow = TRUTH.with_values(mem_eff=0.12, burst=0.05, interference=1.0)

    def farthest(*models: str) -> float:
        groups = keyed(served(HERE, models, slow), served(THERE, models, slow, seed=2))
        found = fit_together(groups, NOBODY, effort=PLENTY)
        return max(
            abs(float(x) - GENERIC[entry.name].centre) / GENERIC[entry.name].width
            for fitted in found.values()
            for entry, x in zip(fitted.priors, fitted.point, strict=True)
        )

    assert 0.49 < farthest("llama-3-8b") < 0.51
    assert farthest("llama-3-8b", "llama-2-7b") > 1.2
