"""How long an offloaded generation takes and what it occupies, before anything runs.

The schedule moves unit by unit (see offload_schedule). With overlap a unit lasts as long as its
busiest resource, or as one micro-batch needs to pass through the unit and its attention,
whichever is more; without overlap the resources add up. Weights of the first unit are the fill.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from analyzer.offload_counts import BlockPlan
from analyzer.offload_machine import OffloadMachine
from analyzer.offload_policy import OffloadPolicy
from analyzer.offload_shapes import OffloadDims
from analyzer.offload_shapes import units as units_of
from analyzer.offload_terms import (
    CHAIN,
    RESOURCES,
    WEIGHTS,
    Array,
    OffloadCase,
    UnitKind,
    unit_rows,
)

PLACES = ("gpu", "cpu", "disk")


@dataclass(frozen=True)
class OffloadForecast:
    """Seconds and bytes; arrays follow the leading axes of the shares that were asked about.

    `busy_s` is what each resource has to do over the whole generation, so that
    `bound` names the one that a faster machine should improve.
    """

    prefill_s: Array
    decode_s: Array
    busy_s: dict[str, Array]
    tokens: int

    @property
    def total_s(self) -> Array:
        """Prefill and all decoding steps."""
        return self.prefill_s + self.decode_s

    @property
    def tok_s(self) -> Array:
        """Generated tokens per second of the whole block, prefill included."""
        return self.tokens / self.total_s

    @property
    def bound(self) -> str:
        """The busiest resource (of a single forecast)."""
        return max(self.busy_s, key=lambda name: float(np.ravel(self.busy_s[name])[0]))


def case_of(
    dims: OffloadDims, policy: OffloadPolicy, itemsize: int, prompt_len: int, gen_len: int
) -> OffloadCase:
    """The part of a policy that is not shares."""
    return OffloadCase(
        dims=dims,
        itemsize=itemsize,
        prompt_len=prompt_len,
        gen_len=gen_len,
        gpu_batch=policy.gpu_batch,
        num_gpu_batches=policy.num_gpu_batches,
        weight_bits=policy.weight_bits,
        kv_bits=policy.kv_bits,
        cpu_attention=policy.cpu_attention,
        overlap=policy.overlap,
    )


def asked_shares(policy: OffloadPolicy) -> Array:
    """The nine shares that a policy asks for."""
    return np.array([share for what in ("weights", "kv", "act") for share in policy.shares(what)])


def realised_shares(plan: BlockPlan) -> Array:
    """The nine shares that a plan really gets: streamed weights, sequences of KV, activations."""
    weights = np.zeros(3)
    streamed = [tensor for unit in plan.streamed for tensor in unit]
    for tensor in streamed:
        weights[plan.homes[tensor.key]] += plan.stored_B(tensor)
    case = case_of(plan.dims, plan.policy, plan.itemsize, plan.prompt_len, 1)
    total = sum(kind.count * case.stored_B(kind.own) for kind in case.kinds)
    weights[0] = total - weights[1:].sum()
    kv = np.sum([split for layer in plan.kv for split in layer], axis=0)
    act = np.sum(plan.act, axis=0)
    return np.concatenate([weights / total, kv / kv.sum(), act / act.sum()])


def forecast(case: OffloadCase, machine: OffloadMachine, shares: Array) -> OffloadForecast:
    """Forecast one case for shares of shape (..., 9); everything broadcasts over the front."""
    shares = np.asarray(shares, dtype=float)
    each = [(kind, float(kind.count), shares) for kind in case.kinds]
    return _forecast(case, machine, each, _fill(case, machine, shares[..., WEIGHTS]))


def forecast_plan(plan: BlockPlan, gen_len: int, machine: OffloadMachine) -> OffloadForecast:
    """Forecast a plan with what each single unit really streams, not with the mean unit."""
    case = case_of(plan.dims, plan.policy, plan.itemsize, plan.prompt_len, gen_len)
    units = range(plan.unit_count)
    own = [_streamed_shares(plan, j) for j in units]
    act = np.sum(plan.act, axis=0) / plan.rows
    each = []
    for j in units:
        kv = plan.kv[min(j, plan.dims.layers - 1)]
        after = own[(j + 1) % plan.unit_count]
        shares = np.concatenate([after, np.sum(kv, axis=0) / plan.rows, act])
        each.append((case.kind_of(j), 1.0, shares))
    return _forecast(case, machine, each, _fill(case, machine, own[0]))


def _streamed_shares(plan: BlockPlan, j: int) -> Array:
    """Shares of unit j's bytes on GPU, CPU and disk, as placed."""
    found = np.zeros(3)
    for tensor in plan.streamed[j]:
        found[plan.homes[tensor.key]] += plan.stored_B(tensor)
    tables = () if j else ("embed", "positions")
    total = sum(plan.stored_B(t) for t in units_of(plan.dims)[j] if t.role not in tables)
    found[0] = total - found.sum()
    return found / total


def _forecast(
    case: OffloadCase,
    machine: OffloadMachine,
    each: list[tuple[UnitKind, float, Array]],
    fill: Array,
) -> OffloadForecast:
    lengths = case.prompt_len + np.arange(case.gen_len - 1, dtype=float)
    prefill, busy = _steps(case, machine, each, case.prompt_len, np.zeros(1))
    decode = np.zeros_like(prefill)
    if len(lengths):
        decode, more = _steps(case, machine, each, 1, lengths)
        busy = busy + more
    named = {name: busy[..., n] for n, name in enumerate(RESOURCES[:CHAIN])}
    return OffloadForecast(prefill + fill, decode, named, case.block * case.gen_len)


def _steps(
    case: OffloadCase,
    machine: OffloadMachine,
    each: list[tuple[UnitKind, float, Array]],
    fresh: int,
    prefix: Array,
) -> tuple[Array, Array]:
    """Seconds of all steps with these prefixes, and busy seconds by resource."""
    total: Array = np.zeros(each[0][2].shape[:-1])
    busy: Array = np.zeros((*total.shape, CHAIN))
    rows = {kind.j: unit_rows(kind, machine, fresh, prefix) for kind, _, _ in each}
    for kind, count, shares in each:
        seconds = rows[kind.j].seconds(shares, machine.job_overhead_s, case.num_gpu_batches)
        own = seconds[..., :CHAIN]
        lasts = seconds.max(-1) if case.overlap else own.sum(-1)
        total = total + count * lasts.sum(-1)
        busy = busy + count * own.sum(-2)
    return total, busy


def _fill(case: OffloadCase, machine: OffloadMachine, weights: Array) -> Array:
    """Seconds until the first unit's weights are there: disk and link one after the other."""
    first = case.stored_B(case.kinds[0].own)
    off, disk = weights[..., 1] + weights[..., 2], weights[..., 2]
    seconds: Array = first * (off / machine.h2d_Bps + disk / machine.disk_read_Bps)
    return seconds
