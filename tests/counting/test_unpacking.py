"""Weights in fewer bits than they are multiplied in: what each engine's kernels do beside."""

from __future__ import annotations

import pytest

from analyzer import precision
from analyzer.counting import Layout, count, steps
from analyzer.optable import OpTable
from analyzer.plan import Plan, layout
from analyzer.quirks import repaired
from analyzer.records import Scenario
from analyzer.unpacking import AS_STORED, IN_KERNEL, KERNELS, Kernel, Unpacking, unpacking

from .models import DENSE, HIDDEN, MODELS

BITS = 4.25
WEIGHTS = HIDDEN * (8 + 2 * 4) * 16 + 8 * 16 * HIDDEN + 3 * HIDDEN * DENSE.width
"""Of the dense model's layer."""


def table(kind: Unpacking, rows: int, fused: bool = True) -> OpTable:
    made = Layout(weight_B=BITS / 8, unpacking=kind, fused=fused)
    return count(MODELS["dense"], steps.decode(rows, 100), made)


def widening(found: OpTable, field: str) -> float:
    return float(getattr(found, field)[found.names.index("dequantise")])


@pytest.mark.parametrize(("rows", "times"), [(1, 1), (16, 1), (17, 2), (256, 16)])
def test_tiles_widen_all_weights_anew(rows: int, times: int) -> None:
    kernel = Kernel(flops=7.0, tile=16.0)
    found = table(Unpacking(few=kernel, many=kernel), rows)
    assert widening(found, "flops") == 7 * times * WEIGHTS
    assert widening(found, "act_B") == 0


@pytest.mark.parametrize(("rows", "written"), [(50, 0), (51, 1)])
def test_many_rows_write_weights_out(rows: int, written: int) -> None:
    """Two bytes written and two read by the library's product, by one kernel more per matrix."""
    kind = Unpacking(few=Kernel(vector=1.0), many=Kernel(written=True), rows=50.0, launches=0.5)
    found = table(kind, rows)
    assert widening(found, "act_B") == 4 * WEIGHTS * written
    assert widening(found, "launches") == 4 * (0.5 + written)


def test_a_matrix_apart_is_a_kernel_apart() -> None:
    """Eager models keep queries, keys and values apart, and gate and up."""
    kind = Unpacking(few=Kernel(), many=Kernel(), launches=2.0)
    assert widening(table(kind, 1, fused=False), "launches") == 7 * 2


@pytest.mark.parametrize(("rows", "share"), [(8, 4.0), (9, 0.0)])
def test_few_rows_are_multiplied_by_vector_units(rows: int, share: float) -> None:
    found = table(Unpacking(few=Kernel(vector=4.0), many=Kernel(), rows=8.0), rows)
    up = found.names.index("ffn.up")
    assert found.vector_flops[up] == share * found.flops[up]
    assert found.vector_flops[found.names.index("head")] == 0


def test_eight_bits_as_they_are_still_take_kernels() -> None:
    """The arithmetic is in 8 bits; narrowing and widening of activations take kernels beside."""
    model = MODELS["dense"]
    plan = Plan(weights="bnb-int8", engine="transformers-bnb", fused=False)
    found = count(model, steps.decode(1, 100), layout(model, plan))
    assert widening(found, "flops") == 0
    assert widening(found, "launches") == 7 * KERNELS["transformers-bnb"]["bnb-int8"].launches


@pytest.mark.parametrize(("rows", "written"), [(64, 0), (65, 1)])
def test_prompts_of_llama_cpp_write_weights_out(rows: int, written: int) -> None:
    model = MODELS["dense"]
    found = count(
        model, steps.decode(rows, 100), layout(model, Plan(weights="q4_0", engine="llama.cpp"))
    )
    assert widening(found, "act_B") == 4 * WEIGHTS * written
    assert widening(found, "flops") == 2 * WEIGHTS * written


def test_who_does_what() -> None:
    def of(engine: str, weights: str) -> Unpacking:
        found = precision.lookup(weights)
        return unpacking(engine, found, found.compute)

    assert of("transformers", "int4-awq-g64") is KERNELS["transformers"]["int4-awq"]
    assert of("vllm-v0", "int4-awq") is IN_KERNEL
    assert of("vllm-v0", "fp8") is AS_STORED
    assert of("transformers", "bf16") is AS_STORED
    assert of("nobody's", "int4-gptq") is IN_KERNEL


@pytest.mark.parametrize(
    ("source", "variant", "stated", "ran"),
    [
        ("optimum_benchmark", "fp16+gptq+exllamav1", "int4-gptq", "int4-exllama1"),
        ("optimum_benchmark", "fp16+gptq+exllamav2", "int4-gptq", "int4-gptq"),
        ("optimum_benchmark", "awq+gemv", "int4-awq", "int4-awq-gemv"),
        ("autoawq", "GEMV kernel", "int4-awq", "int4-awq-gemv"),
        ("elsewhere", "GEMV kernel", "int4-awq", "int4-awq"),
    ],
)
def test_kernels_that_stand_in_the_variant(
    source: str, variant: str, stated: str, ran: str
) -> None:
    scenario = Scenario(hardware="", model="", variant=variant, weight_precision=stated)
    assert repaired(scenario, source).weight_precision == ran
