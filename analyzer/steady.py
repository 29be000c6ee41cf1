"""Phases composed into what a request sees: alone in a static batch, or among others.

In continuous batching, with `concurrency` requests always in the system, every output token of a
sequence waits for one decode step and for its share of the prompts that are worked off meanwhile;
each request's own prompt waits for some of its fellows'; and when the cache cannot hold them all,
the rest queue and Little's law says for how long. The event-driven simulator in `serving/` answers
what this closed form cannot: percentiles, traces, schedulers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.engines import EngineClass
from analyzer.plan import Plan
from analyzer.timing.rates import Rates

Array = NDArray[np.float64]


class Latency(NamedTuple):
    """Mean latencies of a request, shape (*scenarios)."""

    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    queued_s: Any = 0.0


def static_batch(prefill_s: Array, decode_s: Array, output_tokens: Any) -> Latency:
    """All sequences start together and none joins."""
    steps = np.maximum(np.asarray(output_tokens) - 1.0, 0.0)
    return Latency(prefill_s, decode_s, prefill_s + steps * decode_s)


def waves(latency: Latency, batch: Any, capacity: Any) -> Latency:
    """A static batch of which only `capacity` sequences fit: the rest follow as room is made.

    `latency` is that of a full machine; the time to the first token is that of the first wave.
    """
    rounds = np.maximum(np.asarray(batch) / np.maximum(capacity, 1.0), 1.0)
    e2e_s = latency.e2e_s * rounds
    return latency._replace(e2e_s=e2e_s, queued_s=e2e_s - latency.e2e_s)


class Busy(NamedTuple):
    """What one replica's work takes, in seconds."""

    alone_s: Any
    """Time to first token of a request that finds the engine idle."""
    work_s: Any
    """What one more prompt adds while many are worked off."""
    decode_s: Any
    """A step of all running sequences."""


def crowd_of(input_tokens: Any, kind: EngineClass) -> Any:
    """Prompts that one step can hold."""
    return np.maximum(kind.step_tokens / np.maximum(input_tokens, 1.0), 1.0)


def polled(kind: EngineClass, plan: Plan, concurrency: Any) -> Any:
    """Decode steps between two looks of the scheduler at what has arrived, as the plan says, else
    as the engine is usually started; ranks that hold sequences of their own look every time."""
    if plan.poll_steps is not None:
        return plan.poll_steps
    steps: Any = 1.0
    for at_least, every in kind.polls:
        steps = np.where(np.asarray(concurrency) >= at_least, every, steps)
    return np.where(np.asarray(plan.attention_dp) > 1, 1.0, steps)


def closed_loop(
    busy: Busy,
    output_tokens: Any,
    concurrency: Any,
    running: Any,
    rates: Rates,
    poll_steps: Any = 1.0,
    hold: Hold | None = None,
) -> Latency:
    """`concurrency` requests per replica at all times, of which `running` fit.

    A request waits until the scheduler looks, every `poll_steps` steps, and decodes beside others
    in its own step; and it waits for some of its fellows' prompts: all of a loop's requests start
    at once, and what that costs is spread over the rounds of the loop.
    """
    fellows = np.maximum(running - 1.0, 0.0)
    tpot_s = busy.decode_s + rates.interference * fellows * busy.work_s / output_tokens
    steps_waited = poll_steps / 2.0 + STEPS_SHARED
    turn_s = steps_waited * busy.decode_s * fellows / np.maximum(running, 1.0)
    waited_s = turn_s + rates.burst * fellows * busy.work_s
    if hold is not None:
        waited_s = waited_s + held_back(busy, output_tokens, running, hold)
    steps = np.maximum(np.asarray(output_tokens) - 1.0, 0.0)
    served_s = busy.alone_s + waited_s + steps * tpot_s
    queued_s = served_s * np.maximum(concurrency / running - 1.0, 0.0)
    ttft_s = busy.alone_s + waited_s + queued_s
    return Latency(ttft_s, tpot_s, ttft_s + steps * tpot_s, queued_s)


STEPS_SHARED = 1.0
"""After half of the steps between two looks: the one that a prompt shares, or that had been begun
when the scheduler looked."""


class Hold(NamedTuple):
    """How prompts are held back for one another, by steps after the first of them."""

    steps: Any = 0.0
    """At most so many."""
    groups: Any = 1.0
    """Groups of attention data parallelism: none waits longer than until each has a prompt."""


def held_back(busy: Busy, output_tokens: Any, running: Any, hold: Hold) -> Any:
    """Mean time that prompts are held back for one another.

    As many come in a step as answers end in it. The first waits all steps, those that follow half
    of them on average, and then all are read together, by as many groups as there are.
    """
    coming = running / np.asarray(output_tokens, dtype=np.float64)
    steps = _first_waits(hold, coming)
    followers = steps * coming
    waited = steps * (1.0 + followers / 2.0) / (1.0 + followers)
    return waited * busy.decode_s + followers / hold.groups * busy.work_s


def _first_waits(hold: Hold, coming: Any) -> Any:
    """Mean steps until every other group has a prompt too, or the limit is reached."""
    each = coming / hold.groups
    passed = np.multiply.outer(_AT, hold.steps * np.ones_like(each))
    lacking = 1.0 - (1.0 - np.exp(-each * passed)) ** (hold.groups - 1.0)
    until = hold.steps * np.tensordot(_SHARE, lacking, axes=1)
    return np.where(np.asarray(hold.groups) > 1.0, until, hold.steps)


_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(8)
_AT, _SHARE = (_NODES + 1.0) / 2.0, _WEIGHTS / 2.0
