"""Time of one schedule unit on each resource, as an affine function of nine shares.

The shares are of weights, KV and activations on GPU, CPU and disk. With batch, number of batches,
precisions and CPU attention fixed, every resource's time is linear in them: the forecast takes
the maximum over resources (or their sum, without overlap) and the policy search hands the very
same rows to a linear programme.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from analyzer.offload_machine import OffloadMachine
from analyzer.offload_shapes import OffloadDims, TensorShape, kv_token_B, tensor_B, units

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

    def stored_B(self, tensors: list[TensorShape]) -> int:
        """Bytes of weight tensors as stored."""
        return sum(tensor_B(tensor, self.itemsize, self.weight_bits) for tensor in tensors)

    def plain_B(self, tensors: list[TensorShape]) -> int:
        """Bytes of weight tensors as computed with."""
        return sum(tensor_B(tensor, self.itemsize, 16) for tensor in tensors)

    @cached_property
    def kinds(self) -> list[UnitKind]:
        """The different units of a step, how often each comes, and what each prefetches."""
        per_unit = [[t for t in unit if t.kind != "table"] for unit in units(self.dims)]
        if self.dims.tied:
            per_unit[-1] = [*per_unit[-1], units(self.dims)[0][0]]
        last = self.dims.layers
        wanted = {0: 1, 1: last - 2, last - 1: 1, last: 1} if last > 1 else {0: 1, last: 1}
        if last == 2:
            wanted = {0: 1, 1: 1, 2: 1}
        return [
            UnitKind(self, j, count, per_unit[j], per_unit[(j + 1) % (last + 1)])
            for j, count in wanted.items()
            if count > 0
        ]


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


def unit_rows(
    kind: UnitKind, machine: OffloadMachine, fresh: int, prefix: Array
) -> tuple[Array, Array]:
    """Seconds of each resource: (len(prefix), resources, 9) slopes and matching constants.

    `fresh` tokens per sequence enter; `prefix` are the lengths cached before (0 in prefill).
    """
    shape = (len(prefix), len(RESOURCES))
    slopes, constants = np.zeros((*shape, 9)), np.zeros(shape)
    decoding = fresh == 1 and bool(np.any(prefix > 0))
    for resource, columns, amount in _transfers(kind, machine, fresh, prefix, decoding):
        slopes[:, RESOURCES.index(resource), columns] += amount
    gpu_slope, gpu_constant = _gpu(kind, machine, fresh, prefix, decoding)
    gpu = RESOURCES.index("gpu")
    slopes[:, gpu, KV] += gpu_slope
    constants[:, gpu] += gpu_constant
    one = 1 / kind.case.num_gpu_batches
    slopes[:, CHAIN] += one * slopes[:, gpu]
    constants[:, CHAIN] += one * constants[:, gpu]
    return slopes, constants


def _per_share(mask: Array, seconds: Array | float) -> Array:
    return np.asarray(np.multiply.outer(np.atleast_1d(seconds), mask))


def _transfers(
    kind: UnitKind, machine: OffloadMachine, fresh: int, prefix: Array, decoding: bool
) -> Iterator[tuple[str, slice, Array]]:
    """(resource, columns, seconds per share) of everything that moves, and of CPU attention."""
    case = kind.case
    weights = case.stored_B(kind.following)
    yield "h2d", WEIGHTS, _per_share(OFF_GPU, weights / machine.h2d_Bps)
    yield "disk_read", WEIGHTS, _per_share(ON_DISK, weights / machine.disk_read_Bps)
    if not kind.attends:
        return
    one = 1 / case.num_gpu_batches
    store = case.block * fresh * case.token_B
    yield "d2h", KV, _per_share(OFF_GPU, store / machine.d2h_Bps)
    yield "disk_write", KV, _per_share(ON_DISK, store / machine.disk_write_Bps)
    leaving = 1 if kind.j == case.dims.layers - 1 else fresh
    rest = case.block * leaving * case.resting_B
    there = rest / machine.d2h_Bps + rest / machine.h2d_Bps
    disk = rest / machine.disk_write_Bps + rest / machine.disk_read_Bps
    yield "d2h", ACT, _per_share(OFF_GPU, rest / machine.d2h_Bps)
    yield "h2d", ACT, _per_share(OFF_GPU, rest / machine.h2d_Bps)
    yield "disk_write", ACT, _per_share(ON_DISK, rest / machine.disk_write_Bps)
    yield "disk_read", ACT, _per_share(ON_DISK, rest / machine.disk_read_Bps)
    yield "chain", ACT, _per_share(OFF_GPU, one * there) + _per_share(ON_DISK, one * disk)
    if not decoding:
        return
    cached = case.block * prefix * case.token_B
    yield "disk_read", KV, _per_share(ON_DISK, cached / machine.disk_read_Bps)
    if not case.cpu_attention:
        yield "h2d", KV, _per_share(OFF_GPU, cached / machine.h2d_Bps)
        return
    query = case.block * case.dims.q_width * case.itemsize
    attend = case.block * (prefix + 1) * case.token_B / machine.cpu_attention_Bps
    ways = query / machine.d2h_Bps, query / machine.h2d_Bps
    yield "d2h", KV, _per_share(OFF_GPU, ways[0])
    yield "h2d", KV, _per_share(OFF_GPU, ways[1])
    yield "cpu", KV, _per_share(OFF_GPU, attend)
    passing = store / machine.d2h_Bps + sum(ways) + attend
    yield "chain", KV, _per_share(OFF_GPU, one * passing)


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
