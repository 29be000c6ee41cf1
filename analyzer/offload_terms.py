"""Time of one schedule unit on each resource, as an affine function of nine shares.

The shares are of weights, KV and activations on GPU, CPU and disk. With batch, number of batches,
precisions and CPU attention fixed, every resource's time is linear in them: the forecast takes
the maximum over resources (or their sum, without overlap) and the policy search hands the very
same rows to a linear programme.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.offload_machine import OffloadMachine
from analyzer.offload_shapes import (
    OffloadDims,
    TensorShape,
    chunk_count,
    kv_token_B,
    tensor_B,
    units,
)

Array = NDArray[np.float64]
WEIGHTS, KV, ACT = slice(0, 3), slice(3, 6), slice(6, 9)
OFF_GPU = np.array([0.0, 1.0, 1.0])
ON_DISK = np.array([0.0, 0.0, 1.0])
RESOURCES = ("h2d", "d2h", "disk_read", "disk_write", "gpu", "cpu", "chain")
CHAIN = RESOURCES.index("chain")


@dataclass(frozen=True, kw_only=True)
class OffloadCase:
    """All of a policy that is not a share, with the model and the lengths."""

    dims: OffloadDims
    itemsize: int
    prompt_len: int
    gen_len: int
    gpu_batch: int
    num_gpu_batches: int
    weight_bits: int = 16
    kv_bits: int = 16
    cpu_attention: bool = False
    overlap: bool = True

    @property
    def block(self) -> int:
        """Sequences in a block."""
        return self.gpu_batch * self.num_gpu_batches

    @property
    def token_B(self) -> int:
        """Stored KV bytes of one token in one layer."""
        return kv_token_B(self.dims, self.itemsize, self.kv_bits)

    @property
    def resting_B(self) -> int:
        """Bytes of one token's activations at rest: residual and attended values."""
        return (self.dims.hidden + self.dims.q_width) * self.itemsize

    def stored_B(self, tensors: Iterable[TensorShape]) -> int:
        """Bytes of weight tensors as stored."""
        return sum(tensor_B(tensor, self.itemsize, self.weight_bits) for tensor in tensors)

    def plain_B(self, tensors: Iterable[TensorShape]) -> int:
        """Bytes of weight tensors as computed with."""
        return sum(tensor_B(tensor, self.itemsize, 16) for tensor in tensors)

    @cached_property
    def kinds(self) -> list[UnitKind]:
        """The different units of a step, how often each comes, and what each prefetches."""
        per_unit = [[t for t in unit if t.kind != "table"] for unit in units(self.dims)]
        if self.dims.tied:
            per_unit[-1] = [*per_unit[-1], units(self.dims)[0][0]]
        last = self.dims.layers
        wanted = {0: 1, last: 1}
        if last == 2:
            wanted = {0: 1, 1: 1, 2: 1}
        elif last > 2:
            wanted = {0: 1, 1: last - 2, last - 1: 1, last: 1}
        return [
            UnitKind(self, j, count, per_unit[j], per_unit[(j + 1) % (last + 1)])
            for j, count in wanted.items()
            if count > 0
        ]

    def kind_of(self, j: int) -> UnitKind:
        """The kind that unit j is of."""
        last = self.dims.layers
        stands_for = j if j in (0, last - 1, last) else 1
        return next(kind for kind in self.kinds if kind.j == stands_for)


@dataclass(frozen=True)
class UnitKind:
    """A unit, how many alike there are in a step, its tensors and those it prefetches."""

    case: OffloadCase
    j: int
    count: int
    own: list[TensorShape]
    following: list[TensorShape]

    @property
    def attends(self) -> bool:
        """Every unit but the last has an attention behind it."""
        return self.j < self.case.dims.layers

    def positions(self, fresh: int) -> int:
        """Tokens of a sequence that pass through the unit."""
        return fresh if self.attends else 1

    @cached_property
    def matrix_elements(self) -> float:
        """Elements of the matrices that one token passes (of its experts only)."""
        dims = self.case.dims
        share = dims.experts_per_token / dims.experts if dims.experts else 1.0
        return sum(
            tensor.numel * (share if tensor.expert >= 0 else 1.0)
            for tensor in self.own
            if len(tensor.shape) == 2 and tensor.role not in ("head", "embed")
        )


class Move(NamedTuple):
    """Seconds that something takes per share, for the whole block; `mask` says for which tiers."""

    resource: str
    columns: slice
    mask: Array
    seconds: Array | float
    chained: bool = False  # whether a micro-batch has to wait for it on its way to the next unit
    pieces: int = 0  # jobs for the whole block; 0: one per micro-batch


@dataclass(frozen=True)
class UnitRows:
    """Seconds per resource: `slopes` (steps, resources, 9) @ shares + `constants`.

    `jobs` says which jobs a resource gets, and which shares call for them.
    """

    slopes: Array
    constants: Array
    jobs: list[Move]
    gpu_jobs: int

    def seconds(self, shares: Array, job_s: float, batches: int) -> Array:
        """(..., steps, resources) for shares (..., 9), each job costing `job_s` on top."""
        found: Array = np.einsum("...s,trs->...tr", shares, self.slopes) + self.constants
        if job_s:
            for move in self.jobs:
                called = job_s * (shares[..., move.columns] @ move.mask > 0)[..., None]
                found[..., RESOURCES.index(move.resource)] += called * (move.pieces or batches)
                found[..., CHAIN] += called * move.chained
            found[..., RESOURCES.index("gpu")] += job_s * batches * self.gpu_jobs
            found[..., CHAIN] += job_s * self.gpu_jobs
        return found


def unit_rows(kind: UnitKind, machine: OffloadMachine, fresh: int, prefix: Array) -> UnitRows:
    """The rows of one unit: `fresh` tokens per sequence enter, `prefix` were cached before.

    `prefix` holds one length per step, or a single 0 for prefill.
    """
    shape = (len(prefix), len(RESOURCES))
    slopes, constants = np.zeros((*shape, 9)), np.zeros(shape)
    decoding = bool(np.any(prefix > 0))
    one = 1 / kind.case.num_gpu_batches
    jobs = list(_moves(kind, machine, fresh, prefix, decoding))
    for move in jobs:
        amount = np.multiply.outer(np.atleast_1d(move.seconds), move.mask)
        slopes[:, RESOURCES.index(move.resource), move.columns] += amount
        if move.chained:
            slopes[:, CHAIN, move.columns] += one * amount
    gpu_slope, gpu_constant = _gpu(kind, machine, fresh, prefix, decoding)
    for resource, part in (("gpu", 1.0), ("chain", one)):
        slopes[:, RESOURCES.index(resource), KV] += part * gpu_slope
        constants[:, RESOURCES.index(resource)] += part * gpu_constant
    return UnitRows(slopes, constants, jobs, 1 + kind.attends)


def _moves(
    kind: UnitKind, machine: OffloadMachine, fresh: int, prefix: Array, decoding: bool
) -> Iterator[Move]:
    """Everything that moves, and attention on the CPU."""
    case = kind.case
    weights = case.stored_B(kind.following)
    chunks = chunk_count(weights, case.num_gpu_batches)
    yield Move("h2d", WEIGHTS, OFF_GPU, weights / machine.h2d_Bps, pieces=chunks)
    yield Move("disk_read", WEIGHTS, ON_DISK, weights / machine.disk_read_Bps, pieces=chunks)
    if not kind.attends:
        return
    store = case.block * fresh * case.token_B
    on_cpu = decoding and case.cpu_attention
    yield Move("d2h", KV, OFF_GPU, store / machine.d2h_Bps, on_cpu)
    yield Move("disk_write", KV, ON_DISK, store / machine.disk_write_Bps)
    leaving = 1 if kind.j == case.dims.layers - 1 else fresh
    rest = case.block * leaving * case.resting_B
    yield Move("d2h", ACT, OFF_GPU, rest / machine.d2h_Bps, True)
    yield Move("disk_write", ACT, ON_DISK, rest / machine.disk_write_Bps, True)
    yield Move("disk_read", ACT, ON_DISK, rest / machine.disk_read_Bps, True)
    yield Move("h2d", ACT, OFF_GPU, rest / machine.h2d_Bps, True)
    if not decoding:
        return
    cached = case.block * prefix * case.token_B
    yield Move("disk_read", KV, ON_DISK, cached / machine.disk_read_Bps)
    if not on_cpu:
        yield Move("h2d", KV, OFF_GPU, cached / machine.h2d_Bps)
        return
    query = case.block * case.dims.q_width * case.itemsize
    attend = case.block * (prefix + 1) * case.token_B / machine.cpu_attention_Bps
    yield Move("d2h", KV, OFF_GPU, query / machine.d2h_Bps, True)
    yield Move("cpu", KV, OFF_GPU, attend, True)
    yield Move("h2d", KV, OFF_GPU, query / machine.h2d_Bps, True)


def _gpu(
    kind: UnitKind, machine: OffloadMachine, fresh: int, prefix: Array, decoding: bool
) -> tuple[Array, Array]:
    """Seconds of the GPU per KV share, and those that no share changes."""
    case, dims = kind.case, kind.case.dims
    tokens = case.gpu_batch * kind.positions(fresh)
    flops = 2.0 * tokens * kind.matrix_elements
    if not kind.attends:
        flops += 2.0 * case.gpu_batch * dims.hidden * dims.vocab
    plain, stored = case.plain_B(kind.own), case.stored_B(kind.own)
    each = max(flops / machine.gpu_flops, plain / machine.hbm_Bps) + machine.unit_overhead_s
    once = (stored + plain) / machine.hbm_Bps if case.weight_bits < 16 else 0.0
    constant = np.full(len(prefix), case.num_gpu_batches * each + once)
    slope = np.zeros((len(prefix), 3))
    if kind.attends:
        attend = _gpu_attention(kind, machine, fresh, prefix)
        where = np.array([1.0, 0, 0]) if decoding and case.cpu_attention else np.ones(3)
        slope = np.multiply.outer(attend, where)
    return slope, constant


def _gpu_attention(kind: UnitKind, machine: OffloadMachine, fresh: int, prefix: Array) -> Array:
    """Seconds for the whole block to attend on the GPU."""
    case, dims = kind.case, kind.case.dims
    queries = 1 if kind.j == dims.layers - 1 else fresh
    last = prefix + fresh
    keys = last - (queries - 1) / 2
    flops = 4.0 * case.block * queries * keys * dims.q_width
    plain = 2 * dims.kv_width * case.itemsize
    touched = plain if case.kv_bits >= 16 else case.token_B + 2 * plain
    memory = case.block * last * touched / machine.hbm_Bps
    return np.maximum(flops / machine.attention_flops, memory)
