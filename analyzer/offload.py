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
from analyzer.offload_terms import CHAIN, RESOURCES, Array, OffloadCase, unit_rows

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
    lengths = case.prompt_len + np.arange(case.gen_len - 1, dtype=float)
    prefill, busy = _steps(case, machine, shares, case.prompt_len, np.zeros(1))
    prefill = prefill + _fill(case, machine, shares)
    decode = np.zeros_like(prefill)
    if len(lengths):
        decode, more = _steps(case, machine, shares, 1, lengths)
        busy = {name: busy[name] + more[name] for name in busy}
    return OffloadForecast(prefill, decode, busy, case.block * case.gen_len)


def _steps(
    case: OffloadCase, machine: OffloadMachine, shares: Array, fresh: int, prefix: Array
) -> tuple[Array, dict[str, Array]]:
    """Seconds of all steps with these prefixes, and busy seconds by resource."""
    total = np.zeros(shares.shape[:-1])
    busy = np.zeros((*shares.shape[:-1], CHAIN))
    for kind in case.kinds:
        slopes, constants = unit_rows(kind, machine, fresh, prefix)
        seconds = np.einsum("...s,trs->...tr", shares, slopes) + constants
        own = seconds[..., :CHAIN]
        if case.overlap:
            lasts = seconds.max(-1)
        else:
            jobs = np.count_nonzero(own > 0, axis=-1) * case.num_gpu_batches
            lasts = own.sum(-1) + jobs * machine.job_overhead_s
        total = total + kind.count * lasts.sum(-1)
        busy = busy + kind.count * own.sum(-2)
    return total, {name: busy[..., n] for n, name in enumerate(RESOURCES[:CHAIN])}


def _fill(case: OffloadCase, machine: OffloadMachine, shares: Array) -> Array:
    """Seconds until the first unit's weights are there: disk and link one after the other."""
    first = case.stored_B(case.kinds[0].own)
    off, disk = shares[..., 1] + shares[..., 2], shares[..., 2]
    seconds: Array = first * (off / machine.h2d_Bps + disk / machine.disk_read_Bps)
    return seconds
