"""The best plans served by the simulator: what requests see, step by step, before anybody pays.

The search's closed forms know means. The simulator knows who waits for whom: each plan serves its
own number of requests in flight, and its percentiles are held against the promises. Answers vary in
length around the question's: requests that are all alike and start together stay in step for ever,
read their prompts together, and see four to eight times the mean wait for a first token.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzer.engines import engine
from analyzer.errors import CapacityError, ConfigError
from analyzer.search.found import Found
from analyzer.serving import SimOptions, SimResult, simulate
from analyzer.serving.deployment import Limits, deploy
from analyzer.serving.timers import StepTimer
from analyzer.workload import SLO
from analyzer.workload_arrivals import ClosedLoop, Fixed, Load, Uniform

MOST_TOKENS = 8192
"""Prompt tokens per step where the plan works off whole prompts."""
ROUNDS, FEW_ROUNDS = 16, 4
"""Requests per request in flight: the first rounds are still in step, the last see it empty."""
FEWEST, MANY = 64, 8192
SPREAD = 0.25
"""Answers are up to this share shorter or longer, all lengths between as likely."""


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
    if found.columns.prefill[row] >= 0:
        return Confirmed(row, None, "disaggregated workers are not simulated here", None)
    try:
        options, timer = _simulation(found, row)
    except (CapacityError, ConfigError) as error:
        return Confirmed(row, None, str(error), None)
    result = simulate(options, timer)
    promised = found.question.slo != SLO()
    kept = None if result.attainment is None or not promised else result.attainment >= share
    return Confirmed(row, result, "", kept)


def _simulation(found: Found, row: int) -> tuple[SimOptions, StepTimer]:
    """One replica with the plan's own limits, and the load that the search had in mind."""
    question = found.question
    system, basis = question.offers[int(found.columns.offer[row])]
    plan = msgspec.structs.replace(found.plan(row), dp=1)
    kind, batch = engine(plan.engine), int(found.columns.batch[row])
    lengths = _lengths(question.output_tokens)
    drafts = plan.speculation.tokens if plan.speculation else 0
    at_once = min(batch, int(kind.max_sequences))
    limits = Limits(
        max_sequences=at_once,
        max_batched_tokens=max(plan.chunk_tokens or MOST_TOKENS, at_once * (1 + drafts)),
        max_model_tokens=question.input_tokens + longest(lengths),
        memory_share=kind.memory_share,
        prefix_caching=False,
    )
    held = deploy(question.model, system, plan, basis, limits)
    load = Load(
        arrivals=ClosedLoop(concurrency=batch),
        input_tokens=Fixed(tokens=question.input_tokens),
        output_tokens=lengths,
        requests=max(min(ROUNDS * batch, MANY), FEW_ROUNDS * batch, FEWEST),
        seed=row,
    )
    options = SimOptions(load=load, engine=held.engine, replicas=held.replicas, slo=question.slo)
    return options, held.timer


def _lengths(tokens: int) -> Fixed | Uniform:
    """Answers around the question's length."""
    around = int(SPREAD * tokens)
    if not around:
        return Fixed(tokens=tokens)
    return Uniform(low=tokens - around, high=tokens + around)


def longest(lengths: Fixed | Uniform) -> int:
    """The longest answer."""
    return lengths.tokens if isinstance(lengths, Fixed) else lengths.high
