"""The check's plan: nothing that a profile takes, all of it several times, small budgets whole."""

from __future__ import annotations

import msgspec
import pytest
from test_profiler_planning import CPU, GPU, OPTIONS

from profilers import check, gauge, generation
from profilers.model_shapes import CHECK_MODELS, DEFAULT_MODELS, find_config
from profilers.planning import cut_to_budget


def test_no_model_and_no_length_of_a_check_is_profiled():
    for size, models in CHECK_MODELS.items():
        assert not set(models) & set(DEFAULT_MODELS[size])
        assert not {prompt for _, prompt in check.PAIRS[size]} & set(generation.PROMPTS[size])
        assert check.OUTPUTS[size] != generation.OUTPUTS[size]
        for model in models:
            assert find_config(model)[0] == model


def test_repeats_are_cases_of_their_own_and_differ_in_nothing_else():
    first, second, *_ = (check.plan(OPTIONS, CPU, turn) for turn in range(check.REPEATS["cpu"]))
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert one.case.id != other.case.id
        assert one.case.scenario == other.case.scenario
        assert {**one.case.case, "repeat": 0} == {**other.case.case, "repeat": 0}


def test_a_small_budget_sees_every_model_and_length():
    items = check.plan(OPTIONS, CPU, 0)
    few = items[: len(items) // len(check.PAIRS["small"])]
    scenarios = [item.case.scenario for item in few]
    assert {one.model for one in scenarios} == set(CHECK_MODELS["small"])
    pairs = {(one.concurrency, one.input_tokens) for one in scenarios}
    assert pairs == set(check.PAIRS["small"])
    cost_s = sum(item.estimate_s for item in few) / 0.9
    assert {item.case.id for item in few} <= {i.case.id for i in cut_to_budget(items, cost_s)}


def test_what_is_asked_for_is_taken():
    asked = msgspec.structs.replace(OPTIONS, batches=(3,), prompts=(77,), models=("llama-68m",))
    scenarios = [item.case.scenario for item in check.plan(asked, CPU, 0)]
    assert {(one.concurrency, one.input_tokens) for one in scenarios} == {(3, 77)}


def test_a_large_device_is_checked_on_large_models():
    scenarios = [item.case.scenario for item in check.plan(OPTIONS, GPU, 0)]
    assert {one.model for one in scenarios} == set(CHECK_MODELS["large"])


def test_a_round_begins_with_the_machines_pace():
    for turn in (0, 3):
        items = check.round_of(OPTIONS, CPU, turn)
        gauges = [item for item in items if item.case.profile == "gauge"]
        assert [item.case.case["op"] for item in gauges] == list(gauge.PIECES)
        assert items[: len(gauges)] == gauges
        assert {item.case.case["repeat"] for item in items} == {turn}


def test_a_budget_holds_two_rounds_and_then_whole_ones():
    assert check.share_s(600.0, 0.0, 8) == 300.0
    assert check.share_s(520.0, 80.0, 7) == pytest.approx(520.0 / 6)
    assert check.share_s(520.0, 300.0, 7) == 520.0
    assert check.share_s(900.0, 80.0, 7) == pytest.approx(900.0 / 7)
