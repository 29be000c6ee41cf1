"""Counted work to seconds: a roofline with fitted rates, operator by operator.

Each operator takes the longer of its arithmetic and its memory traffic (how sharply is a rate), plus
what launching it costs. Linear layers reach their rate only with enough rows, attention only with
enough keys and enough independent heads to fill the machine; the forms are those that held up on
measured kernels, and `Rates.ideal()` turns all of them into the plain speed of light.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.optable import COMPUTE, OpTable
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates

Array = NDArray[np.float64]

_GEMM_RATE = {
    "fp32": "gemm_eff_32",
    "tf32": "gemm_eff_32",
    "bf16": "gemm_eff_16",
    "fp16": "gemm_eff_16",
    "fp8": "gemm_eff_8",
    "int8": "gemm_eff_8",
    "fp6": "gemm_eff_8",
    "fp4": "gemm_eff_4",
    "int4": "gemm_eff_4",
}
_SHARP = 32.0
BOUNDS = ("compute", "memory", "network", "overhead")


class OpTimes(NamedTuple):
    """Seconds per operator with its repeats, shape (operators, *scenarios)."""

    compute_s: Array
    memory_s: Array
    network_s: Array
    overhead_s: Array
    total_s: Array

    @property
    def bound(self) -> NDArray[np.intp]:
        """Which of BOUNDS takes longest, per operator."""
        return np.argmax(
            np.stack([self.compute_s, self.memory_s, self.network_s, self.overhead_s]), axis=0
        )


class StepTime(NamedTuple):
    """Seconds of one step and where they went, shape (*scenarios)."""

    total_s: Array
    device_s: Array
    network_s: Array
    host_s: Array
    ops: OpTimes


def time_step(
    table: OpTable, machine: Machine, rates: Rates, sequences: Any = 1.0, with_host: bool = True
) -> StepTime:
    """Time one step: the device's operators, or the host that issues them if that is slower.

    `with_host` adds what the host does once a step (scheduling, sampling); a pipeline's stages
    share one host, so only its last stage pays.
    """
    ops = time_ops(table, machine, rates)
    device_s = ops.total_s.sum(axis=0)
    issue_s = rates.host_launch_s * table.total("launches")
    waited_s = np.maximum(issue_s - device_s, 0.0)
    if with_host:
        waited_s = waited_s + rates.step_s + rates.sequence_s * np.asarray(sequences)
    return StepTime(device_s + waited_s, device_s, ops.network_s.sum(axis=0), waited_s, ops)


def time_ops(table: OpTable, machine: Machine, rates: Rates) -> OpTimes:
    """Time every operator of a step."""
    repeat = table.repeat
    compute_s = _compute_s(table, machine, rates)
    memory_s = _memory_s(table, machine, rates)
    network_s = _network_s(table, machine, rates)
    overhead_s = rates.launch_s * table.launches
    busy_s = smooth_max(compute_s, memory_s, rates.sharpness)
    total_s = (busy_s + network_s + overhead_s) * repeat
    parts = (compute_s, memory_s, network_s, overhead_s)
    return OpTimes(*(part * repeat for part in parts), total_s)


def smooth_max(a: Array, b: Array, sharpness: Any) -> Array:
    """(a^p + b^p)^(1/p): the sum at p=1, the maximum as p grows."""
    larger = np.maximum(a, b)
    if np.ndim(sharpness) == 0 and sharpness >= _SHARP:
        return larger
    if np.ndim(sharpness) == 0 and sharpness == 1.0:
        return a + b
    share = np.minimum(a, b) / np.where(larger > 0, larger, 1.0)
    result: Array = larger * (1.0 + share**sharpness) ** (1.0 / sharpness)
    return result


def _compute_s(table: OpTable, machine: Machine, rates: Rates) -> Array:
    code = table.compute.astype(np.intp)
    peak = machine.peak_vector[code]
    gemm_eff = np.asarray([getattr(rates, _GEMM_RATE[name]) for name in COMPUTE])[code]
    efficiency = np.empty_like(peak)
    slowdown = np.ones_like(peak)
    for index, kind in enumerate(table.kinds):
        if kind == "attention":
            efficiency[index] = rates.attention_eff
            slowdown[index] = 1.0 + rates.attention_half / table.n[index]
        elif kind == "gemm":
            efficiency[index] = gemm_eff[index]
            slowdown[index] = 1.0 + rates.gemm_half / table.m[index]
        elif kind == "grouped_gemm":
            efficiency[index] = gemm_eff[index] * rates.expert_eff
            slowdown[index] = 1.0 + rates.gemm_half / table.m[index]
        else:
            efficiency[index] = rates.vector_eff
            peak[index] = machine.vector_flops
    seconds: Array = table.flops * slowdown / (peak * efficiency)
    return seconds


def _memory_s(table: OpTable, machine: Machine, rates: Rates) -> Array:
    weight_eff = np.where(
        table.weight_bits >= 15.0, rates.mem_eff,
        np.where(table.weight_bits >= 7.0, rates.mem_eff_8, rates.mem_eff_4),
    )
    for index, kind in enumerate(table.kinds):
        if kind == "grouped_gemm":
            weight_eff[index] = weight_eff[index] * rates.expert_eff
    occupancy = fill(table.groups * rates.kv_splits, machine.units)
    kv_eff = np.where(table.weight_bits < 15.0, rates.kv_eff * rates.kv_narrow_eff, rates.kv_eff)
    repeats = table.heads_per_group**rates.gqa_exponent if rates.gqa_exponent else 1.0
    traffic = (
        table.weight_B / weight_eff
        + table.act_B / rates.vector_eff
        + table.kv_B * repeats / (kv_eff * occupancy)
    )
    seconds: Array = traffic / machine.memory_Bps
    return seconds


def fill(parallel: Array, units: Any) -> Array:
    """Share of the machine that `parallel` independent pieces of work keep busy, smoothly."""
    ratio = units / parallel
    squared = ratio * ratio
    share: Array = 1.0 / np.sqrt(np.sqrt(1.0 + squared * squared))
    return share


def _network_s(table: OpTable, machine: Machine, rates: Rates) -> Array:
    seconds = np.zeros_like(table.flops)
    for index, collective in enumerate(table.collectives):
        if collective != "none":
            seconds[index] = machine.collective_s(
                collective,
                table.comm_B[index],
                table.ranks[index],
                table.stride[index],
                rates.collective_s,
                rates.link_eff,
            )
    return seconds
