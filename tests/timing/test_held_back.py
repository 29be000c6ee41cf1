"""Prompts that a server holds back for one another, against drawing them one by one."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.steady import Busy, Hold, closed_loop, held_back
from analyzer.timing.rates import Rates

STEP_S, WORK_S, ANSWER = 0.01, 0.0, 1000.0


def drawn(limit: float, groups: int, running: float, rounds: int = 20_000) -> float:
    """Mean steps that a prompt waits: independent arrivals, released together."""
    rng = np.random.default_rng(7)
    each = running / ANSWER / groups
    waited, prompts = 0.0, 0
    for _ in range(rounds):
        firsts = rng.exponential(1.0 / each, groups - 1)
        until = min(limit, firsts.max()) if groups > 1 else limit
        starts = np.concatenate([[0.0], firsts[firsts <= until]])
        spans = until - starts
        more = rng.poisson(each * spans)  # further prompts of a group, evenly over its span
        waited += spans.sum() + sum(
            rng.uniform(0.0, span, n).sum() for span, n in zip(spans, more, strict=True)
        )
        prompts += len(spans) + int(more.sum())
    return waited / prompts


@pytest.mark.parametrize("running", [4.0, 32.0, 128.0])
@pytest.mark.parametrize("groups", [1, 2, 8])
def test_as_long_as_drawn_prompts_wait(groups: int, running: float) -> None:
    hold = Hold(40.0, groups)
    found = held_back(Busy(0.0, WORK_S, STEP_S), ANSWER, running, hold) / STEP_S
    assert found == pytest.approx(drawn(40.0, groups, running), rel=0.01 if groups == 1 else 0.15)


def test_a_lone_prompt_waits_to_the_end() -> None:
    found = held_back(Busy(0.0, 1.0, STEP_S), 1e9, 1.0, Hold(20.0, 1.0))
    assert found == pytest.approx(20 * STEP_S)


def test_nothing_is_held_back_where_nothing_was_told() -> None:
    busy, rates = Busy(0.1, 0.05, STEP_S), Rates.default()
    plain = closed_loop(busy, ANSWER, 8.0, 8.0, rates)
    assert closed_loop(busy, ANSWER, 8.0, 8.0, rates, hold=Hold()) == plain
    later = closed_loop(busy, ANSWER, 8.0, 8.0, rates, hold=Hold(20.0, 1.0))
    assert later.ttft_s > plain.ttft_s + 15 * STEP_S
    assert later.tpot_s == plain.tpot_s, "answers do not wait"
