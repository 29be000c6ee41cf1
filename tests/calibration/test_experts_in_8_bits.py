"""Routed experts in 8 bits stream at a rate of their own, and closed loops alone tell it."""

from __future__ import annotations

import msgspec
import pytest

from analyzer.calibrated import Calibration, FittedRate, Hull
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from analyzer.workload import Workload
from calibration.problem import Case, build
from calibration.relevant import relevant
from calibration.unmet import completed

H100 = load_system("H100-SXM")
LOAD = Workload(batch=4, input_tokens=128, output_tokens=64)


def _tpot_s(name: str, weights: str, share: float) -> float:
    rates = msgspec.structs.replace(Rates.ideal(), expert_eff_8=share)
    return float(predict(load(name), H100, Plan(tp=8, weights=weights), LOAD, rates).tpot_s)


@pytest.mark.parametrize(
    ("model", "weights", "felt"),
    [
        ("qwen3-30b-a3b", "fp8", True),
        ("qwen3-30b-a3b", "bf16", False),
        ("gpt-oss-120b", "mxfp4", False),
        ("llama-3-8b", "fp8", False),
    ],
)
def test_only_experts_in_8_bits_are_slower(model: str, weights: str, felt: bool) -> None:
    whole, half = _tpot_s(model, weights, 1.0), _tpot_s(model, weights, 0.5)
    assert (half > 1.05 * whole) if felt else (half == whole)


def _case(looped: bool) -> Case:
    model, plan = load("qwen3-30b-a3b"), Plan(tp=2, weights="fp8", engine="vllm-v1")
    return Case(model, plan, LOAD, (1.0, 1.0, 1.0), model.name, looped, running=4.0)


@pytest.mark.parametrize("looped", [True, False])
def test_closed_loops_alone_tell_it(looped: bool) -> None:
    assert ("expert_eff_8" in relevant(build([_case(looped)], machine(H100)))) == looped


@pytest.mark.parametrize("arrival", ["closed_loop", "static"])
def test_what_loops_never_met_is_filled_in_for_loops_only(arrival: str) -> None:
    fitted = FittedRate(value=0.81, low=0.8, high=0.82, data_share=0.99, identified=True)
    hull = Hull(
        batch=(1, 64),
        input_tokens=(128, 8192),
        output_tokens=(64, 1024),
        devices=(1, 8),
        weights=("bf16",),
        arrivals=(arrival,),
        models=("llama-3-8b",),
    )
    found = Calibration(
        system="H100-SXM", engine="vllm-v1", rows=9, models=2, rates={"mem_eff": fitted}, hull=hull
    )
    filled = completed(found, H100.device, None)
    assert ("expert_eff_8" in filled.rates) == (arrival == "closed_loop")
