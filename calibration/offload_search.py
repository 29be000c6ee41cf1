"""Find the best offload policy for a machine: a linear programme inside, a search outside.

With batch, number of batches, precisions and CPU attention fixed, time and memory are affine in the
nine shares, so the best placement is a linear programme. What is fixed is searched: batches grow
until throughput falls. The placement found is rounded to whole percents, realised tensor by tensor
and checked again, so that nothing is proposed that does not fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np

from analyzer.errors import CapacityError, ConfigError
from analyzer.offload import OffloadForecast, asked_shares, case_of, forecast, forecast_plan
from analyzer.offload_counts import BlockPlan
from analyzer.offload_machine import OffloadMachine
from analyzer.offload_memory import capacities_B, memory_rows
from analyzer.offload_policy import OffloadPolicy
from analyzer.offload_shapes import OffloadDims
from analyzer.offload_terms import Array, OffloadCase, unit_rows

SHARES = 9
PLACES = ("gpu", "cpu", "disk")


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """What the search may choose from. Precisions below 16 bits change the model's answers."""

    gpu_batches: Sequence[int] = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
    most_batches: int = 64
    weight_bits: Sequence[int] = (16,)
    kv_bits: Sequence[int] = (16,)
    cpu_attention: Sequence[bool] = (False, True)
    headroom: float = 0.05  # of every capacity, kept free
    most_s: float = float("inf")  # seconds that a whole block may take

    def __post_init__(self) -> None:
        if not 0 <= self.headroom < 1:
            raise ConfigError(f"headroom must lie in [0, 1), not {self.headroom:g}")
        if not self.gpu_batches or min(self.gpu_batches) < 1 or self.most_batches < 1:
            raise ConfigError("batches to search must be at least 1")


@dataclass(frozen=True)
class Proposal:
    """A policy that fits, what it is expected to do, and the bytes that it takes per tier."""

    policy: OffloadPolicy
    forecast: OffloadForecast
    memory_B: tuple[float, float, float]

    @property
    def tok_s(self) -> float:
        """Generated tokens per second, prefill included."""
        return float(self.forecast.tok_s)


def search_policy(
    dims: OffloadDims,
    machine: OffloadMachine,
    *,
    prompt_len: int,
    gen_len: int,
    itemsize: int = 2,
    space: SearchSpace | None = None,
) -> Proposal:
    """The policy with the highest expected throughput; CapacityError when none fits."""
    ranked = search_policies(
        dims, machine, prompt_len=prompt_len, gen_len=gen_len, itemsize=itemsize, space=space
    )
    return ranked[0]


def search_policies(
    dims: OffloadDims,
    machine: OffloadMachine,
    *,
    prompt_len: int,
    gen_len: int,
    itemsize: int = 2,
    space: SearchSpace | None = None,
) -> list[Proposal]:
    """The best policy of every (batch, precisions, CPU attention), best first."""
    space = space or SearchSpace()
    found: list[Proposal] = []
    for batch, weight_bits, kv_bits, on_cpu in product(
        sorted(set(space.gpu_batches)), space.weight_bits, space.kv_bits, space.cpu_attention
    ):
        start = OffloadCase(
            dims=dims,
            itemsize=itemsize,
            prompt_len=prompt_len,
            gen_len=gen_len,
            gpu_batch=batch,
            num_gpu_batches=1,
            weight_bits=weight_bits,
            kv_bits=kv_bits,
            cpu_attention=on_cpu,
        )
        drafts = sorted(_grow(start, machine, space), key=lambda draft: -draft.tok_s)
        best = next(filter(None, (_settle(draft, machine, space) for draft in drafts)), None)
        if best:
            found.append(best)
    if not found:
        raise CapacityError(_too_small(dims, machine, itemsize, space))
    return sorted(found, key=lambda proposal: -proposal.tok_s)


@dataclass(frozen=True)
class Draft:
    """The linear programme's answer to a case, not yet rounded to tensors."""

    case: OffloadCase
    shares: Array
    tok_s: float


def _grow(start: OffloadCase, machine: OffloadMachine, space: SearchSpace) -> Iterator[Draft]:
    """Try more and more batches; stop when they do not fit or throughput has fallen twice."""
    best, falls = 0.0, 0
    room = capacities_B(machine) * (1 - space.headroom)
    for batches in _counts(space.most_batches):
        case = replace(start, num_gpu_batches=batches)
        shares = best_shares(case, machine, room)
        if shares is None:
            return
        expected = forecast(case, machine, shares)
        if float(expected.total_s) > space.most_s:
            return
        draft = Draft(case, shares, float(expected.tok_s))
        yield draft
        falls = 0 if draft.tok_s > best else falls + 1
        best = max(best, draft.tok_s)
        if falls >= 2:
            return


def _counts(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 5, then in steps of about a fifth, and the most."""
    count = 1
    while count < most:
        yield count
        count = max(count + 1, round(count * 1.2))
    yield most


def _settle(draft: Draft, machine: OffloadMachine, space: SearchSpace) -> Proposal | None:
    """Round a draft to whole percents and tensors; ask for less until that fits too."""
    limit = capacities_B(machine) * (1 - space.headroom)
    room, shares = limit, draft.shares
    for _ in range(6):
        proposal = _realise(draft.case, machine, shares)
        over = np.array(proposal.memory_B) / np.maximum(limit, 1.0)
        if np.all(over <= 1) and float(proposal.forecast.total_s) <= space.most_s * 1.02:
            return proposal
        room = room / np.maximum(1.0, over * 1.005)
        again = best_shares(draft.case, machine, room)
        if again is None:
            return None
        shares = again
    return None


def best_shares(case: OffloadCase, machine: OffloadMachine, room_B: Array) -> Array | None:
    """Solve the linear programme: shares that minimise the time within `room_B` per tier."""
    from scipy.optimize import linprog

    rows, limits, cost = _epigraph(case, machine)
    memory = memory_rows(case)
    finite = np.isfinite(room_B) & (room_B > 0)
    extra = rows.shape[1] - SHARES
    memory_rows_ = np.hstack([memory.slopes[finite], np.zeros((int(finite.sum()), extra))])
    scale = room_B[finite]
    upper = np.vstack([rows, memory_rows_ / scale[:, None]])
    bounds_upper = np.concatenate([limits, (room_B - memory.constants)[finite] / scale])
    whole = np.zeros((3, rows.shape[1]))
    for what in range(3):
        whole[what, 3 * what : 3 * what + 3] = 1
    share_bounds = [(0.0, 1.0 if room > 0 else 0.0) for room in room_B] * 3
    bounds = [*share_bounds, *[(0.0, None)] * extra]
    found = linprog(
        cost, A_ub=upper, b_ub=bounds_upper, A_eq=whole, b_eq=np.ones(3), bounds=bounds,
        method="highs",
    )  # fmt: skip
    if found.x is None or found.status != 0:
        return None
    shares: Array = np.clip(found.x[:SHARES], 0.0, 1.0)
    return shares


def _epigraph(case: OffloadCase, machine: OffloadMachine) -> tuple[Array, Array, Array]:
    """One time variable per (phase, unit kind), at least as large as every resource's seconds.

    Decoding is taken at its mean length, and a tiny price on bytes off the GPU settles ties.
    """
    steps = case.gen_len - 1
    middle = case.prompt_len + (steps - 1) / 2
    phases = [(case.prompt_len, np.zeros(1), 1.0)]
    if steps:
        phases.append((1, np.array([middle]), float(steps)))
    blocks = [
        (unit_rows(kind, machine, fresh, prefix), weight * kind.count)
        for fresh, prefix, weight in phases
        for kind in case.kinds
    ]
    width = SHARES + len(blocks)
    cost = np.zeros(width)
    rows, limits = [], []
    for n, (unit, weight) in enumerate(blocks):
        cost[SHARES + n] = weight
        for slopes, constant in zip(unit.slopes[0], unit.constants[0], strict=True):
            row = np.zeros(width)
            row[:SHARES] = slopes
            row[SHARES + n] = -1
            rows.append(row)
            limits.append(-constant)
    scale = max(1e-12, -min(limits))
    cost[:SHARES] += 1e-6 * scale * np.tile([0.0, 1.0, 2.0], 3)
    return np.array(rows), np.array(limits), cost


def to_percents(shares: Array) -> tuple[float, ...]:
    """Six whole percents; what is rounded goes to the slower tier."""
    percents: list[float] = []
    for what in range(3):
        gpu, cpu, disk = shares[3 * what : 3 * what + 3] * 100
        on_gpu = float(np.floor(gpu + 1e-6))
        on_cpu = 100.0 - on_gpu if disk < 1e-6 else float(np.floor(cpu + 1e-6))
        percents += [on_gpu, min(on_cpu, 100.0 - on_gpu)]
    return tuple(percents)


def policy_of(case: OffloadCase, percents: Sequence[float]) -> OffloadPolicy:
    """The policy that a case and six percents spell out."""
    return OffloadPolicy.from_percent(
        percents,
        gpu_batch=case.gpu_batch,
        num_gpu_batches=case.num_gpu_batches,
        overlap=case.overlap,
        cpu_attention=case.cpu_attention,
        weight_bits=case.weight_bits,
        kv_bits=case.kv_bits,
    )


def _realise(case: OffloadCase, machine: OffloadMachine, shares: Array) -> Proposal:
    policy = policy_of(case, to_percents(shares))
    plan = BlockPlan(case.dims, policy, case.itemsize, policy.block, case.prompt_len)
    expected = forecast_plan(plan, case.gen_len, machine)
    return Proposal(policy, expected, planned_memory_B(plan, case.gen_len))


def planned_memory_B(plan: BlockPlan, gen_len: int) -> tuple[float, float, float]:
    """Bytes on GPU, CPU and disk of a plan as realised, staging and workspace included."""
    case = case_of(plan.dims, plan.policy, plan.itemsize, plan.prompt_len, gen_len)
    weights = np.array(plan.weight_B(), dtype=float)
    kv = np.array(plan.kv_B(gen_len), dtype=float)
    act = np.sum(plan.act, axis=0)
    shares = np.concatenate([weights / weights.sum(), kv / kv.sum(), act / act.sum()])
    gpu, cpu, disk = memory_rows(case).at(shares).tolist()
    return (gpu, cpu, disk)


def compare(
    dims: OffloadDims,
    machine: OffloadMachine,
    policy: OffloadPolicy,
    *,
    prompt_len: int,
    gen_len: int,
    itemsize: int = 2,
) -> OffloadForecast:
    """What a given policy would do on the machine, at the shares it asks for."""
    case = case_of(dims, policy, itemsize, prompt_len, gen_len)
    return forecast(case, machine, asked_shares(policy))


def _too_small(
    dims: OffloadDims, machine: OffloadMachine, itemsize: int, space: SearchSpace
) -> str:
    case = OffloadCase(
        dims=dims, itemsize=itemsize, prompt_len=1, gen_len=1, gpu_batch=1, num_gpu_batches=1,
        weight_bits=min(space.weight_bits), kv_bits=min(space.kv_bits), cpu_attention=True,
    )  # fmt: skip
    model = memory_rows(case).slopes[0, 0]
    have = ", ".join(
        f"{place} {size / 1e9:.1f} GB"
        for place, size in zip(PLACES, capacities_B(machine), strict=True)
    )
    return (
        f"no policy fits: the weights alone take {model / 1e9:.1f} GB, the machine has {have}; "
        "add memory or disk, or allow fewer bits"
    )
