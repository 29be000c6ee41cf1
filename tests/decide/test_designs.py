"""Designs: their points by number alone, their laws, and the figures of their points."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import basis
from analyzer.answer import answer
from analyzer.designs import Design, Range, design_of, permuted
from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.sweep import METRICS
from analyzer.sweep_points import Fixed, chooser, predict_points
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload

AXES = {
    "model": ["llama-2-7b"],
    "system": ["H100-SXM", "A100-SXM-80GB"],
    "batch": Range(low=1, high=64),
    "input_tokens": Range(low=16, high=4096, log=True),
    "output_tokens": [32, 128],
    "tp": [1, 2, 3, 4],
}


@given(count=st.integers(1, 5000), salt=st.integers(0, 1 << 30))
def test_a_permutation_hits_every_number_once(count: int, salt: int) -> None:
    found = permuted(np.arange(count, dtype=np.uint64), count, salt)
    assert sorted(found.tolist()) == list(range(count))


@pytest.mark.parametrize("kind", ["grid", "random", "latin-hypercube"])
def test_any_slice_is_that_of_the_whole(kind: str) -> None:
    axes = AXES if kind != "grid" else {**AXES, "input_tokens": Range(low=16, high=64, step=8)}
    design = Design(kind=kind, axes=axes, points=None if kind == "grid" else 1000, seed=3)
    whole = design.at(0, len(design))
    for start, stop in ((0, 1), (17, 300), (len(design) - 5, len(design) + 9)):
        part = design.at(start, stop)
        for name, values in whole.items():
            assert np.array_equal(part[name], values[start:stop])


def test_a_grid_is_every_combination_once_the_last_axis_fastest() -> None:
    axes = {"model": ["a", "b"], "system": ["s"], "batch": [1, 4], "tp": Range(low=1, high=3)}
    found = Design(axes=axes).at(0, 99)
    points = list(zip(*(found[name].tolist() for name in axes), strict=True))
    assert points == list(product(["a", "b"], ["s"], [1, 4], [1, 2, 3]))


def test_a_latin_hypercube_has_one_point_in_every_stratum() -> None:
    count = 640
    design = Design(kind="latin-hypercube", axes=AXES, points=count, seed=11)
    points = design.at(0, count)
    assert sorted(points["batch"].tolist()) == sorted(10 * list(range(1, 65)))
    assert sorted(points["tp"].tolist()) == sorted(160 * [1, 2, 3, 4])
    other = Design(kind="latin-hypercube", axes=AXES, points=count, seed=12).at(0, count)
    assert not np.array_equal(points["batch"], other["batch"])
    assert abs(np.corrcoef(points["batch"], points["input_tokens"])[0, 1]) < 0.12


def test_random_points_stay_inside_and_reach_the_ends() -> None:
    points = Design(kind="random", axes=AXES, points=20_000, seed=5).at(0, 20_000)
    assert points["batch"].min() == 1
    assert points["batch"].max() == 64
    assert points["input_tokens"].min() >= 16
    assert points["input_tokens"].max() <= 4096
    assert math.isclose(np.log(points["input_tokens"]).mean(), np.log(256), rel_tol=0.02)


def test_points_are_what_answer_says_of_each() -> None:
    design = Design(kind="random", axes=AXES, points=40, seed=2)
    points = design.at(0, 40)
    found = predict_points(points, Fixed("", "static", chooser("", "static", "uncalibrated")))
    model = load("llama-2-7b")
    for row in range(40):
        tp = int(points["tp"][row])
        if tp == 3:
            assert np.isnan(found["ttft_s"][row]), "three ranks do not divide 32 heads"
            continue
        asked = Workload(**{
            name: float(points[name][row])
            for name in ("batch", "input_tokens", "output_tokens")
        })  # fmt: skip
        system = load_system(str(points["system"][row]))
        if asked.input_tokens + asked.output_tokens > (model.max_context or np.inf):
            assert np.isnan(found["ttft_s"][row])
            continue
        one = answer(model, system, Plan(tp=tp), asked, basis.uncalibrated()).prediction
        if float(one.running) < asked.batch:
            assert np.isnan(found["ttft_s"][row]), "sequences of a sweep do not wait for room"
            continue
        for metric in METRICS[:6]:
            assert math.isclose(found[metric][row], float(getattr(one, metric)), rel_tol=1e-12), (
                metric
            )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "cube"}, "design 'cube' is unknown"),
        ({"points": None}, "needs 'points'"),
        ({"axes": {**AXES, "bach": [1]}}, "did you mean batch"),
        ({"axes": {**AXES, "batch": []}}, "batch has no values"),
        ({"axes": {**AXES, "tp": ["two"]}}, "'two' is not a whole number"),
        ({"axes": {**AXES, "tp": [0]}}, "0 is too small"),
        ({"points": 0}, "0 points"),
    ],
)
def test_mistakes_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Design(**{"kind": "random", "axes": AXES, "points": 10, **change})  # type: ignore[arg-type]


def test_ranges_come_from_tables() -> None:
    read = design_of({"batch": {"low": 1, "high": 8}, "tp": [1, 2]})
    assert read == {"batch": Range(low=1, high=8), "tp": [1, 2]}
    with pytest.raises(ConfigError, match="batch is a list"):
        design_of({"batch": {"from": 1}})
    with pytest.raises(ConfigError, match="holds no values"):
        design_of({"batch": {"low": 9, "high": 8}})
