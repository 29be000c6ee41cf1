"""Sides of a comparison are what `answer` says of each, and a plan that keeps pace does."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analyzer import basis
from analyzer.answer import answer
from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.search import Offer
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload
from reports.compare import MATCHES, METRICS, Case, compare, keep_pace

LOAD = Workload(batch=4, input_tokens=512, output_tokens=64)


def case(model: str, system: str, tp: int = 1) -> Case:
    held = load_system(system)
    plan = Plan(tp=tp, engine="vllm-v1")
    return Case(f"{model} on {system}", load(model), held, plan, LOAD, basis.calibrated(held))


def test_each_side_is_the_answer_to_its_own_question() -> None:
    found = compare([case("llama-2-7b", "H100-SXM"), case("llama-2-7b", "A100-SXM-80GB")])
    for side in found.sides:
        own = side.case
        alone = answer(own.model, own.system, own.plan, own.workload, own.basis)
        assert side.value("tpot_s") == float(alone.prediction.tpot_s)
        held = alone.interval("tpot_s")
        assert held is not None
        assert side.interval("tpot_s") == (float(held.low), float(held.high))
    for metric, more in METRICS.items():
        values = [side.value(metric) for side in found.sides]
        if not any(map(math.isnan, values)):
            best = found.best(metric)
            assert best is not None
            assert values[best] == (max(values) if more else min(values))
    ratio = found.sides[1].value("tpot_s") / found.sides[0].value("tpot_s")
    assert found.ratio("tpot_s", 1) == ratio
    assert found.tied("tpot_s", 0) is True


def test_a_side_that_cannot_run_says_why_and_leaves_the_others_alone() -> None:
    found = compare([case("llama-2-70b", "RTX3090"), case("llama-2-7b", "RTX3090")])
    assert "does not fit" in found.sides[0].problem
    assert math.isnan(found.sides[0].value("tpot_s"))
    assert found.best("tpot_s") == 1
    assert found.tied("tpot_s", 0) is None
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([])


@pytest.mark.parametrize("match", MATCHES)
def test_seventy_billion_keep_pace_with_seven_on_as_few_devices_as_do(match: str) -> None:
    first = compare([case("llama-2-7b", "A100-SXM-80GB")]).sides[0].answer
    assert first is not None
    h200 = load_system("H200-SXM")
    found = keep_pace(first, load("llama-2-70b"), [Offer(h200, basis.ideal())], match, 8)
    best = found.best()
    wanted = {name: float(getattr(first.prediction, name)) for name in MATCHES[match]}
    assert best is not None
    for name, most in wanted.items():
        assert float(getattr(found.columns, name)[best]) <= most
    fewer = np.flatnonzero(found.columns.devices < found.columns.devices[best])
    for row in fewer:
        figures = [float(getattr(found.columns, name)[row]) for name in wanted]
        assert not all(f <= most for f, most in zip(figures, wanted.values(), strict=True))


def test_an_unknown_match_is_refused() -> None:
    first = compare([case("llama-2-7b", "A100-SXM-80GB")]).sides[0].answer
    assert first is not None
    with pytest.raises(ConfigError, match="match"):
        keep_pace(first, load("llama-2-7b"), [], "speed", 8)
