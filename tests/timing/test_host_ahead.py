"""What a host that plans ahead hides, and which releases do."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.releases import asynchronous
from analyzer.systems_catalog import load_system
from analyzer.timing.rates import Rates
from analyzer.workload import Workload

H100 = load_system("H100-SXM")
LOAD = Workload(batch=16, input_tokens=1000, output_tokens=500)
PLAN = Plan(engine="vllm-v1")


@pytest.mark.parametrize(
    ("engine", "version", "date", "ahead"),
    [
        ("vllm-v1", "0.13.2", "", False),
        ("vllm-v1", "v0.14.0", "", True),
        ("vllm-v1", "", "2025", False),
        ("vllm-v1", "", "2025-12", False),
        ("vllm-v1", "", "2026-01", True),
        ("vllm-v1", "0.11.0", "2026-03", False),
        ("vllm-v1", "nightly", "2026", True),
        ("vllm-v1", "", "", True),
        ("vllm-v0", "", "", False),
        ("unstated", "", "", False),
    ],
)
def test_a_release_decides_then_a_date_then_the_newest_is_meant(
    engine: str, version: str, date: str, ahead: bool
) -> None:
    assert asynchronous(engine, version, date) is ahead


def _tpot_s(ahead: bool | None, step_s: float) -> float:
    rates = msgspec.structs.replace(Rates.default(), step_s=step_s, interference=0.0)
    plan = msgspec.structs.replace(PLAN, asynchronous=ahead)
    found = predict(load("llama-3-8b"), H100, plan, LOAD, rates, "closed_loop")
    return float(found.tpot_s)


def test_a_host_that_plans_ahead_costs_only_what_it_takes_longer_than_the_device() -> None:
    device_s = _tpot_s(False, 0.0)
    for step_s in (0.2 * device_s, 0.9 * device_s):
        assert _tpot_s(True, step_s) == pytest.approx(device_s)
        assert _tpot_s(False, step_s) == pytest.approx(device_s + step_s)
    assert _tpot_s(True, 3.0 * device_s) == pytest.approx(3.0 * device_s)


def test_unsaid_it_is_the_newest_releases_habit() -> None:
    assert _tpot_s(None, 1e-3) == _tpot_s(True, 1e-3) < _tpot_s(False, 1e-3)


@pytest.mark.parametrize("inputs", [10, 1000, 7000])
def test_each_prompt_token_takes_its_time_before_the_first_token_and_none_between(
    inputs: int,
) -> None:
    load_ = msgspec.structs.replace(LOAD, input_tokens=inputs)
    found = [
        predict(
            load("llama-3-8b"),
            H100,
            PLAN,
            load_,
            msgspec.structs.replace(Rates.default(), token_s=token_s),
            "closed_loop",
        )
        for token_s in (0.0, 5e-6)
    ]
    none, some = found
    assert float(some.ttft_s - none.ttft_s) == pytest.approx(5e-6 * inputs, rel=1e-6)
    np.testing.assert_array_equal(some.tpot_s, none.tpot_s)
