"""What an offloaded generation occupies on each tier: homes, staging rings and workspace.

Affine in the nine shares like the times, so that a linear programme can keep within capacity.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.offload_machine import OffloadMachine
from analyzer.offload_shapes import MAX_CHUNK_B, units
from analyzer.offload_terms import ACT, KV, OFF_GPU, ON_DISK, WEIGHTS, Array, OffloadCase

RING = 2
READS_AHEAD = 3
FLOWS_IN_FLIGHT = 3


@dataclass(frozen=True)
class MemoryRows:
    """Bytes on (GPU, CPU, disk) = slopes @ shares + constants."""

    slopes: Array
    constants: Array

    def at(self, shares: Array) -> Array:
        """Bytes per tier for shares of shape (..., 9)."""
        filled: Array = np.asarray(shares, dtype=float) @ self.slopes.T + self.constants
        return filled


def capacities_B(machine: OffloadMachine) -> Array:
    """Bytes that the machine has on GPU, CPU and disk."""
    return np.array([machine.gpu_B, machine.cpu_B, machine.disk_B])


def memory_rows(case: OffloadCase) -> MemoryRows:
    """Peak bytes per tier as affine functions of the shares."""
    slopes, constants = np.zeros((3, 9)), np.zeros(3)
    _homes(case, slopes)
    _staging(case, slopes, constants)
    constants[0] += _workspace(case)
    return MemoryRows(slopes, constants)


def _homes(case: OffloadCase, slopes: Array) -> None:
    dims = case.dims
    model = sum(kind.count * case.stored_B(kind.own) for kind in case.kinds)
    tables = [t for t in units(dims)[0] if t.kind == "table"]
    model += case.stored_B(tables if not dims.tied else tables[1:])
    cache = case.block * dims.layers * (case.prompt_len + case.gen_len - 1) * case.token_B
    resting = case.block * case.prompt_len * case.resting_B
    for tier in range(3):
        slopes[tier, WEIGHTS.start + tier] += model
        slopes[tier, KV.start + tier] += cache
        slopes[tier, ACT.start + tier] += resting


def _staging(case: OffloadCase, slopes: Array, constants: Array) -> None:
    largest = max(case.stored_B(kind.own) for kind in case.kinds)
    length = case.prompt_len + case.gen_len - 1
    cached = case.gpu_batch * length * case.token_B
    rest = case.gpu_batch * case.prompt_len * case.resting_B
    slopes[0, WEIGHTS] += RING * largest * OFF_GPU
    constants[1] += READS_AHEAD * min(largest, MAX_CHUNK_B)  # disk reads run three chunks ahead
    if not case.cpu_attention:
        slopes[0, KV] += RING * cached * OFF_GPU
    slopes[1, KV] += 2 * RING * cached * ON_DISK
    slopes[1, ACT] += 2 * RING * rest * ON_DISK


def _workspace(case: OffloadCase) -> float:
    """GPU bytes that computing one micro-batch needs, with stores of earlier ones in flight."""
    dims = case.dims
    tokens = case.gpu_batch * case.prompt_len
    experts = max(1, dims.experts_per_token)
    inner = (3 if dims.gated else 2) * dims.ffn * experts
    flow = dims.hidden + 2 * dims.q_width + 4 * dims.kv_width
    attention = 3 * dims.q_width + (2 * dims.q_width if dims.heads != dims.kv_heads else 0)
    prefill = tokens * case.itemsize * (max(inner, attention) + 4 * dims.hidden)
    in_flight = FLOWS_IN_FLIGHT * tokens * case.itemsize * flow
    length = case.prompt_len + case.gen_len
    scores = 3 * 4 * case.gpu_batch * dims.heads * length
    mask = case.gpu_batch * case.prompt_len * case.prompt_len
    logits = 2 * 4 * case.gpu_batch * dims.vocab
    decoded = 0.0
    if case.weight_bits < 16:
        decoded += max(case.plain_B(kind.own) for kind in case.kinds)
    if case.kv_bits < 16:
        decoded += 3 * case.gpu_batch * length * 2 * dims.kv_width * case.itemsize
    return prefill + in_flight + scores + mask + logits + decoded
