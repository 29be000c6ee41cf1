"""Which rates a group's measurements could speak of at all.

A rate that no operator of any case meets would only stay at its prior and cost time; it is left at
the prior without being fitted.
"""

from __future__ import annotations

import numpy as np

from analyzer.engines import engine
from analyzer.optable import COMPUTE, KIND_INDEX
from analyzer.timing.flat import FlatTable
from analyzer.timing.processor import FEW_ROWS
from calibration.problem import Problem

_ALWAYS = (
    "gemm_half",
    "wave_loss",
    "attention_eff",
    "attention_half",
    "kv_eff",
    "kv_splits",
    "vector_eff",
    "sharpness",
    "launch_s",
    "step_s",
    "sequence_s",
    "prefill_s",
)
_BY_COMPUTE = {
    "gemm_eff_32": ("fp32", "tf32"),
    "gemm_eff_16": ("bf16", "fp16"),
    "gemm_eff_8": ("fp8", "int8", "fp6"),
    "gemm_eff_4": ("fp4", "int4"),
    "gemm_eff_block": ("fp8-block",),
}

WIDE = frozenset({
    "mem_wide", "kv_wide", "attention_wide", "half_wide", "rows_wide", "sharpness_wide",
})  # fmt: skip
"""Where a processor ran both 16 and 32 bits; on GPUs too few fp32 rows exist to tell."""
LAID = frozenset({"rows_few", "turned_eff", "turned_wide"})
"""Of a processor, told by its operators even where no whole model had such rows or weights."""

IN_LOOPS = frozenset({"expert_eff_8"})
"""Fitted to closed loops only: theirs are the engines whose experts in 8 bits are scaled by blocks.
Others' fits have such experts in the rates of 8-bit weights."""


def relevant(problem: Problem) -> list[str]:
    """Names of the rates that these cases meet, in a fixed order."""
    tables = [
        table
        for bundle in problem.bundles
        for step in (*bundle.prefill, *bundle.decode)
        for table in step.tables
    ]
    met = set(_ALWAYS)
    for table in tables:
        met |= _met(table)
        met |= _met_by_processor(table) if problem.machine.matrix_vector else set()
    if not all(engine(case.plan.engine).graphs for case in problem.cases):
        met.add("host_launch_s")
    if any(bundle.cold.any() for bundle in problem.bundles):
        met.add("cold_s")
    if any(np.any(step.saved) for bundle in problem.bundles for step in bundle.prefill):
        met.add("stream_overlap")
    if not all(case.looped and not case.queued for case in problem.cases):
        met -= IN_LOOPS
    if any(bundle.looped for bundle in problem.bundles):
        met |= {"burst", "interference", "prefill_launch_s", "token_s"}
    if problem.machine.matrix_vector:
        met.add("linear_s")
    if problem.machine.matrix_vector and met >= {"gemm_eff_32", "gemm_eff_16"}:
        met |= WIDE
    return sorted(met)


def _met_by_processor(table: FlatTable) -> set[str]:
    columns = table.columns
    linear = (table.kinds == KIND_INDEX["gemm"]) & (columns["weight_B"] > 0)
    wide, rows, turned = columns["weight_bits"] >= 24, columns["m"], columns["input_major"] > 0
    tests = {
        "rows_few": linear & wide & (rows > 1.0) & (rows < FEW_ROWS),
        "turned_eff": linear & turned & ~wide,
        "turned_wide": linear & turned & wide,
    }
    return {name for name, present in tests.items() if present.any()}


def _met(table: FlatTable) -> set[str]:
    kinds, columns = table.kinds, table.columns
    linear = (kinds == KIND_INDEX["gemm"]) | (kinds == KIND_INDEX["grouped_gemm"])
    attention = kinds == KIND_INDEX["attention"]
    codes = {COMPUTE[int(code)] for code in np.unique(columns["compute"][linear])}
    bits = columns["weight_bits"][linear & (columns["weight_B"] > 0)]
    experts = columns["weight_bits"][kinds == KIND_INDEX["grouped_gemm"]]
    routed = bool((kinds == KIND_INDEX["grouped_gemm"]).any())
    tests = {
        **{name: bool(codes & set(formats)) for name, formats in _BY_COMPUTE.items()},
        "mem_eff": bool((bits >= 15).any()),
        "mem_eff_8": bool(((bits >= 7) & (bits < 15)).any()),
        "mem_eff_4": bool((bits < 7).any()),
        "expert_eff": routed,
        "expert_eff_8": routed and bool(((experts >= 7) & (experts < 15)).any()),
        "expert_gemm_eff": routed,
        "kv_narrow_eff": bool((columns["weight_bits"][attention] < 15).any()),
        "gqa_exponent": bool((columns["heads_per_group"][attention] > 1).any()),
        "query_cost": bool((columns["lone_flops"] > 0).any()),
        "unsplit_cost": bool((columns["unsplit_flops"] > 0).any()),
        "collective_s": bool((columns["ranks"] > 1).any()),
        "link_eff": bool((columns["ranks"] > 1).any()),
    }
    return {name for name, present in tests.items() if present}
