"""The best plans served by the simulator: what requests see, step by step, before anybody pays.

The search's closed forms know means. The simulator knows who waits for whom: each plan serves its
own number of requests in flight, and its percentiles are held against the promises.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzer import plan as plans
from analyzer.engines import engine
from analyzer.phases import lay
from analyzer.search.found import Found
from analyzer.serving import EngineOptions, SimOptions, SimResult, Speculation, simulate
from analyzer.serving.steps import kv_blocks, step_timer
from analyzer.serving.timers import StepTimer
from analyzer.timing.machine import machine
from analyzer.workload import SLO
from analyzer.workload_arrivals import ClosedLoop, Fixed, Load

MOST_TOKENS = 8192
"""Prompt tokens per step where the plan works off whole prompts."""
ROUNDS = 4
"""Requests per request in flight: the first and the last round see a fuller or emptier engine."""
FEWEST = 64


class Confirmed(NamedTuple):
    """One plan, predicted and simulated."""

    row: int
    result: SimResult | None
    """None where the simulator cannot serve such a plan."""
    problem: str
    keeps: bool | None
    """Whether 90 of 100 requests kept every promise."""


def confirm(found: Found, rows: list[int], share: float = 0.9) -> list[Confirmed]:
    """Simulate some plans of a search, one replica each."""
    return [_one(found, row, share) for row in rows]


def _one(found: Found, row: int, share: float) -> Confirmed:
    plan = found.plan(row)
    if found.columns.prefill[row] >= 0:
        return Confirmed(row, None, "disaggregated workers are not simulated here", None)
    if plan.pp > 1 or plan.offload is not None or plan.attention_dp > 1:
        lacks = "pipelines" if plan.pp > 1 else "offloading" if plan.offload else "attention_dp"
        return Confirmed(row, None, f"the simulator does not know {lacks}", None)
    result = simulate(*_deployment(found, row))
    promised = found.question.slo != SLO()
    kept = None if result.attainment is None or not promised else result.attainment >= share
    return Confirmed(row, result, "", kept)


def _deployment(found: Found, row: int) -> tuple[SimOptions, StepTimer]:
    question = found.question
    system, basis = question.offers[int(found.columns.offer[row])]
    plan = msgspec.structs.replace(found.plan(row), dp=1)
    kind = engine(plan.engine)
    drafts = plan.speculation.tokens if plan.speculation else 0
    at_once = min(int(found.columns.batch[row]), int(kind.max_sequences))
    rough = EngineOptions(
        kv_blocks=1,
        max_sequences=at_once,
        max_batched_tokens=max(plan.chunk_tokens or MOST_TOKENS, at_once * (1 + drafts)),
        max_model_tokens=question.input_tokens + question.output_tokens,
        prefix_caching=False,
        speculation=_drafts(plan.speculation),
    )
    laid, on = lay(question.model, plan), machine(system)
    blocks = kv_blocks(laid, on.memory_B, kind.memory_share, rough)
    serving = msgspec.structs.replace(rough, kv_blocks=blocks)
    batch = int(found.columns.batch[row])
    load = Load(
        arrivals=ClosedLoop(concurrency=batch),
        input_tokens=Fixed(tokens=question.input_tokens),
        output_tokens=Fixed(tokens=question.output_tokens),
        requests=max(ROUNDS * batch, FEWEST),
        seed=row,
    )
    options = SimOptions(load=load, engine=serving, slo=question.slo)
    return options, step_timer(laid, on, basis.rates, serving)


def _drafts(planned: plans.Speculation | None) -> Speculation | None:
    if planned is None:
        return None
    return Speculation(tokens=planned.tokens, acceptance=planned.acceptance)
