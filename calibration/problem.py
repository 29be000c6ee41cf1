"""Measured scenarios of one (system, engine), counted once and ready to be timed with any rates.

`Case` is one measured row with everything but rates resolved. `build` counts all cases, model by
model, and lays them end to end, so that `predict` is a handful of array operations however many
models there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.model import Model
from analyzer.phases import CountedStep, Laid, count_decode, count_prefill, lay
from analyzer.plan import Plan
from analyzer.steady import Busy, Hold, closed_loop, static_batch
from analyzer.timing.flat import merge
from analyzer.timing.machine import Machine
from analyzer.timing.phase import issuing, time_phase, time_prefill
from analyzer.timing.rates import Rates
from analyzer.workload import Workload

Array = NDArray[np.float64]
METRICS = ("ttft_s", "tpot_s", "e2e_s")


class Case(NamedTuple):
    """One measurement: what ran, and what it took (NaN where that was not measured)."""

    model: Model
    plan: Plan
    workload: Workload
    observed: tuple[float, float, float]
    """ttft_s, tpot_s, e2e_s."""
    group: str
    """What must not be split between fitting and scoring: usually the model."""
    looped: bool = False
    """Continuous batching at a fixed concurrency, which `workload.batch` then is."""
    queued: bool = False
    """Looped, and more requests wait than can run; only throughput was measured."""
    running: float = 0.0
    """Sequences that fit, where looped."""
    step_tokens: float = 8192.0
    """Prompt tokens that a step of a looped engine takes at most."""
    poll_steps: float = 1.0
    """Decode steps between two looks of a looped engine at what has arrived."""
    weight: float = 1.0
    row: int = -1
    """Position in the corpus."""
    campaign: str = ""
    cold: bool = False
    """A first run, without one before it to warm up."""


class Bundle(NamedTuple):
    """Cases built alike, laid end to end."""

    prefill: tuple[CountedStep, ...]
    crowd: tuple[CountedStep, ...]
    """Where looped: as many prompts as an engine works off at once."""
    decode: tuple[CountedStep, ...]
    crowd_size: Array
    prompt_steps: Array
    """Steps' worth of prompt tokens in one prompt."""
    ranks: Array
    """Of attention data parallelism."""
    output_tokens: Array
    concurrency: Array
    running: Array
    poll_steps: Array
    batch_wait: Array
    looped: bool
    cold: Array
    """1 where nothing was warmed up."""
    positions: NDArray[np.intp]
    """Where each case stands in the problem."""
    input_tokens: Array


class Problem(NamedTuple):
    """All cases of one (system, engine), counted."""

    machine: Machine
    cases: tuple[Case, ...]
    bundles: tuple[Bundle, ...]
    observed: Array
    """Shape (cases, 3); NaN where not measured."""
    weights: Array

    @property
    def groups(self) -> NDArray[np.str_]:
        """The group of each case."""
        return np.array([case.group for case in self.cases])


def build(cases: Sequence[Case], machine: Machine) -> Problem:
    """Count every case once."""
    alike: dict[Any, list[int]] = defaultdict(list)
    for index, case in enumerate(cases):
        alike[_structure(case)].append(index)
    bundles = tuple(_bundle(cases, indices) for indices in alike.values())
    observed = np.array([case.observed for case in cases], dtype=np.float64).reshape(-1, 3)
    weights = np.array([case.weight for case in cases], dtype=np.float64)
    return Problem(machine, tuple(cases), bundles, observed, weights)


def subset(problem: Problem, keep: Callable[[Case], bool]) -> Problem:
    """The cases that `keep` wants, counted anew."""
    return build([case for case in problem.cases if keep(case)], problem.machine)


def predict(problem: Problem, rates: Rates) -> Array:
    """Predicted ttft_s, tpot_s and e2e_s of every case, shape (cases, 3)."""
    result = np.empty((len(problem.cases), 3))
    for bundle in problem.bundles:
        result[bundle.positions] = _time(bundle, problem.machine, rates)
    return result


def _time(bundle: Bundle, machine: Machine, rates: Rates) -> Array:
    later = time_phase(bundle.decode, machine, rates)
    if bundle.looped:
        busy = _busy(bundle, machine, rates, later.total_s)
        latency = closed_loop(
            busy,
            bundle.output_tokens,
            bundle.concurrency,
            bundle.running,
            rates,
            bundle.poll_steps,
            Hold(bundle.batch_wait, bundle.ranks) if bundle.batch_wait.any() else None,
        )
    else:
        first = time_prefill(bundle.prefill, machine, rates)
        first_s = first.total_s + rates.cold_s * bundle.cold
        latency = static_batch(first_s, later.total_s, bundle.output_tokens)
    return np.stack(latency[:3], axis=-1)


def _busy(bundle: Bundle, machine: Machine, rates: Rates, decode_s: Array) -> Busy:
    prompts = issuing(rates)
    first = time_prefill(bundle.prefill, machine, prompts)
    crowd = time_phase(bundle.crowd, machine, prompts)
    alone_s = first.total_s + rates.token_s * bundle.input_tokens
    return Busy(alone_s, crowd.total_s / bundle.crowd_size, decode_s)


def least_round_s(problem: Problem, rates: Rates) -> Array:
    """Shortest time in which a closed loop can answer each of its requests once, shape (cases).

    A round works off one prompt of each, and writes one answer's tokens in steps of all of them.
    At best a step of prompts writes a token of each on the way, and every rank of attention data
    parallelism has a prompt of its own. NaN for fixed batches.
    """
    least = np.full(len(problem.cases), np.nan)
    for bundle in problem.bundles:
        if bundle.looped:
            later = time_phase(bundle.decode, problem.machine, rates)
            busy = _busy(bundle, problem.machine, rates, later.total_s)
            prompts = bundle.concurrency * np.maximum(bundle.prompt_steps, 1.0)
            steps = np.maximum(bundle.output_tokens - 1.0 - prompts, 0.0)
            prompts_s = bundle.concurrency * busy.work_s / bundle.ranks
            least[bundle.positions] = prompts_s + steps * busy.decode_s
    return least


def _structure(case: Case) -> tuple[Any, ...]:
    """Cases with the same structure can share one flat table."""
    plan = case.plan
    return (
        case.looped,
        plan.pp if plan.micro_batches != 1 else 0,
        plan.micro_batches,
        plan.chunk_tokens is None,
        plan.speculation is None,
    )


def _bundle(cases: Sequence[Case], indices: list[int]) -> Bundle:
    by_layout: dict[tuple[Model, Plan], list[int]] = defaultdict(list)
    for index in indices:
        by_layout[cases[index].model, _without_numbers(cases[index].plan)].append(index)
    parts = [_count([cases[i] for i in members]) for members in by_layout.values()]
    order = [index for members in by_layout.values() for index in members]
    widths = [len(members) for members in by_layout.values()]
    prefill = _merge([part[0] for part in parts], widths)
    crowd = _merge([part[1] for part in parts], widths)
    decode = _merge([part[2] for part in parts], widths)
    chosen = [cases[index] for index in order]
    return Bundle(
        prefill,
        crowd,
        decode,
        np.array([_crowd(case) for case in chosen]),
        np.array([case.workload.input_tokens / case.step_tokens for case in chosen]),
        np.array([case.plan.attention_dp for case in chosen], dtype=np.float64),
        np.array([case.workload.output_tokens for case in chosen], dtype=np.float64),
        np.array([_per_replica(case, case.workload.batch) for case in chosen]),
        np.array([_per_replica(case, case.running) for case in chosen]),
        np.array([case.poll_steps for case in chosen]),
        np.array([float(case.plan.batch_wait) for case in chosen]),
        chosen[0].looped,
        np.array([float(case.cold) for case in chosen]),
        np.array(order, dtype=np.intp),
        np.array([case.workload.input_tokens for case in chosen], dtype=np.float64),
    )


def _per_replica(case: Case, requests: Any) -> float:
    return float(requests) / float(case.plan.dp)


def _merge(phases: list[tuple[CountedStep, ...]], widths: list[int]) -> tuple[CountedStep, ...]:
    return tuple(merge(steps, widths) for steps in zip(*phases, strict=True))


def _without_numbers(plan: Plan) -> Plan:
    pp = 1 if plan.micro_batches == 1 else plan.pp
    waits = {"poll_steps": None, "batch_wait": 0, "step_tokens": None, "places": None}
    return _replace(plan, tp=1, dp=1, ep=1, attention_dp=1, pp=pp, **waits)


def _count(cases: list[Case]) -> tuple[tuple[CountedStep, ...], ...]:
    """Prefill, a crowd's prefill and decode of cases of one model and one set of formats."""
    column = {
        name: np.array([getattr(case.plan, name) for case in cases], dtype=np.float64)
        for name in ("tp", "dp", "ep", "attention_dp")
    }
    if cases[0].plan.micro_batches == 1:
        column["pp"] = np.array([case.plan.pp for case in cases], dtype=np.float64)
    laid: Laid = lay(cases[0].model, _replace(cases[0].plan, **column))
    first = _workload(cases, [_first_batch(case) for case in cases])
    later = _workload(cases, [_later_batch(case) for case in cases])
    prefill = count_prefill(laid, first)
    crowd = prefill
    if cases[0].looped:
        crowd = count_prefill(laid, _workload(cases, [_crowd(c) * c.plan.dp for c in cases]))
    return prefill, crowd, count_decode(laid, later)


def _crowd(case: Case) -> float:
    """Prompts that are worked off at once when many wait, per replica."""
    fresh = case.workload.input_tokens - case.workload.cached_tokens
    return float(np.maximum(case.step_tokens / np.maximum(fresh, 1.0), 1.0))


def _first_batch(case: Case) -> float:
    return float(case.plan.dp) if case.looped else float(case.workload.batch)


def _later_batch(case: Case) -> float:
    return float(case.running) if case.looped else float(case.workload.batch)


def _workload(cases: list[Case], batch: list[float]) -> Workload:
    def column(name: str) -> Array:
        return np.array([getattr(case.workload, name) for case in cases], dtype=np.float64)

    return Workload(
        batch=np.array(batch),
        input_tokens=column("input_tokens"),
        output_tokens=column("output_tokens"),
        beams=column("beams"),
        cached_tokens=column("cached_tokens"),
    )


def _replace(plan: Plan, **values: Any) -> Plan:
    import msgspec

    return msgspec.structs.replace(plan, **values)
