"""Which arithmetic narrow weights run in, on which device."""

from __future__ import annotations

import pytest

from analyzer.answer import answer
from analyzer.basis import uncalibrated
from analyzer.counting import count, steps
from analyzer.models_catalog import load
from analyzer.optable import COMPUTE
from analyzer.plan import Plan, layout
from analyzer.resolve import compute_format, weight_format
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import GEMM_RATE, machine
from analyzer.workload import Workload

OSS = load("openai/gpt-oss-120b")


def formats(plan: Plan, model: str) -> dict[str, str]:
    """Arithmetic by operator of one decode step."""
    found = load(model)
    table = count(found, steps.decode(8, 100), layout(found, plan))
    codes = table.compute.reshape(-1)
    return {name: COMPUTE[int(codes[row % len(codes)])] for row, name in enumerate(table.names)}


@pytest.mark.parametrize(
    ("system", "arithmetic"), [("B200-SXM-180GB", "fp8"), ("H200-SXM", ""), ("A100-SXM-80GB", "")]
)
def test_mxfp4_is_multiplied_as_it_lies_where_matrix_units_take_it(
    system: str, arithmetic: str
) -> None:
    on = load_system(system)
    found = compute_format("", "mxfp4", on)
    assert found == arithmetic
    assert compute_format("bf16", "mxfp4", on) == "bf16", "what is stated stands"
    assert compute_format("", "nvfp4", on) == ""
    plan = Plan(weights="mxfp4", compute=found, engine="tensorrt-llm-1")
    ran = formats(plan, "openai/gpt-oss-120b")
    assert ran["moe.up"] == (arithmetic or "bf16")
    assert ran["attention.qkv"] == "bf16", "only experts are stored in 4 bits"


def test_native_products_widen_nothing() -> None:
    plan = Plan(weights="mxfp4", compute="fp8", engine="tensorrt-llm-1")
    assert "dequantise" not in formats(plan, "openai/gpt-oss-120b")


def test_eight_bits_of_a_model_with_scales_per_block_are_those() -> None:
    assert weight_format("fp8", load("deepseek-ai/DeepSeek-V3")) == "fp8-block"
    assert weight_format("fp8", load("meta-llama/Llama-3.1-70B")) == "fp8"
    assert weight_format("fp4", load("deepseek-ai/DeepSeek-V3")) == "fp4"
    ran = formats(Plan(weights="fp8-block"), "deepseek-ai/DeepSeek-V3")
    assert "fp8-block" in ran.values()
    assert "fp8" not in ran.values()


def test_scales_per_block_have_a_rate_of_their_own_and_the_same_peak() -> None:
    on = machine(load_system("H200-SXM"))
    codes = {name: code for code, name in enumerate(COMPUTE)}
    assert on.peak_vector[codes["fp8-block"]] == on.peak_vector[codes["fp8"]]
    assert GEMM_RATE["fp8-block"] != GEMM_RATE["fp8"]


def test_scales_per_block_are_no_other_arithmetic_to_warn_of() -> None:
    model, system = load("deepseek-ai/DeepSeek-V3"), load_system("H200-SXM")
    asked = Workload(batch=1, input_tokens=128, output_tokens=8)
    found = answer(model, system, Plan(tp=8), asked, uncalibrated())
    assert not any("arithmetic" in said for said in found.warnings)
    on = answer(model, load_system("A100-SXM-80GB"), Plan(tp=16), asked, uncalibrated())
    assert any("arithmetic" in said for said in on.warnings)
