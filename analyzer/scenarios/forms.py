"""The closed form of each kind of arrival: from a group and its numbers to predicted columns.

`decode_tok_s` follows what is measured under each arrival: output tokens over decoding time where
all sequences start together, over the whole time where requests come and go.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.busy import replica, room
from analyzer.engines import engine_on
from analyzer.memory import footprint_B, memory
from analyzer.open_loop import Flow, Replica, all_at_once, poisson, saturated
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.predict import Prediction, predict
from analyzer.records_arrival import FIXED_BATCHES
from analyzer.scenarios.groups import Group, Pools
from analyzer.steady import crowd_of
from analyzer.timing.machine import machine
from analyzer.timing.phase import issuing
from analyzer.timing.rates import Rates
from analyzer.workload import Workload

Array = NDArray[np.float64]

_ROUNDS = 6
"""Rounds of a fixed point that settles within two or three."""
_SETTLED = 1e-4


class Columns(NamedTuple):
    """Predicted figures of n rows, NaN where there is none."""

    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    prefill_tok_s: Array
    decode_tok_s: Array
    total_tok_s: Array
    peak_mem_B: Array


Form = Callable[[Group, Workload], Columns]


def static(group: Group, load: Workload) -> Columns:
    """All sequences start together; what does not fit waits for the first to end."""
    found = _predict(group, group.plan, load, "static")
    return _columns(found, found.decode_tok_s, peak_B(group, load, found.running))


def closed_loop(group: Group, load: Workload) -> Columns:
    """`load.batch` requests in the system at all times."""
    found = _predict(group, group.plan, load, "closed_loop")
    output_tok_s = load.batch * load.output_tokens / found.e2e_s
    return _columns(found, output_tok_s, peak_B(group, load, found.running))


def offline(group: Group, load: Workload) -> Columns:
    """More requests wait than can run: throughput, but no latency that would mean anything."""
    one, lost = _replica(group, load, STAGGERED)
    return _flowing(group, load, saturated(one, load.output_tokens), one, lost)


def burst(group: Group, load: Workload) -> Columns:
    """`load.batch` requests come at once and are worked off in waves."""
    one, lost = _replica(group, load, TOGETHER)
    requests = np.maximum(load.batch / group.plan.dp, 1.0)
    return _flowing(group, load, all_at_once(one, load.output_tokens, requests), one, lost)


def at_a_rate(group: Group, load: Workload, spread: float) -> Columns:
    """`group.rate_per_s` requests a second; `load.batch` of them in all, endlessly many if NaN.

    `spread` is 1 for independent arrivals, 0 for even ones.
    """
    one, lost = _replica(group, load, STAGGERED)
    copies = float(group.plan.dp)
    rate = float(group.rate_per_s or np.nan) / copies
    flow = poisson(one, load.output_tokens, rate, load.batch / copies, spread)
    return _flowing(group, load, flow, one, lost)


STAGGERED, TOGETHER = 0.5, 1.0
"""Share of an answer that running sequences have written on average when the cache is fullest."""


def _replica(group: Group, load: Workload, growth: float) -> tuple[Replica, NDArray[np.bool_]]:
    """One replica of the group under such a load, and which rows it cannot hold at all."""
    laid, on = lay(group.model, group.plan), machine(group.system)
    kind = engine_on(group.plan.engine, group.system.device)
    place = room(laid, load, on, kind, np.maximum(growth, kind.reserves))
    return replica(laid, load, on, group.basis.rates, place.most, kind), place.impossible


def _flowing(
    group: Group, load: Workload, flow: Flow, one: Replica, lost: NDArray[np.bool_]
) -> Columns:
    """Columns of a flow; NaN where a sequence does not fit."""
    copies = float(group.plan.dp)
    steps = np.maximum(load.output_tokens - 1.0, 0.0)
    leaving = flow.requests_per_s * copies
    found = Columns(
        ttft_s=flow.ttft_s,
        tpot_s=flow.tpot_s,
        e2e_s=flow.ttft_s + steps * flow.tpot_s,
        prefill_tok_s=copies * load.input_tokens / one.alone_s,
        decode_tok_s=leaving * load.output_tokens,
        total_tok_s=leaving * (load.input_tokens + load.output_tokens),
        peak_mem_B=peak_B(group, load, np.maximum(flow.running, 1.0) * copies),
    )
    return Columns(*(np.where(lost, np.nan, column) for column in found))


def disaggregated(group: Group, load: Workload, pools: Pools) -> Columns:
    """Prompts on workers of their own: the slower pool sets the pace, the rest waits before it.

    The pools' own times bound the throughput (`load.batch` requests circulate); what a request
    does not spend in decoding it spends up to its first token. It waits for fellows' prompts as in
    any closed loop, and for the decoding workers to take it in between two steps.
    """
    alone_s, work_s = _prompts(group, load, pools)
    able = pools.prefill_workers / work_s
    fellows = np.maximum(load.batch / pools.prefill_workers - 1.0, 0.0)
    first_s = alone_s + group.basis.rates.burst * fellows * work_s
    steps = np.maximum(load.output_tokens - 1.0, 0.0)
    share = np.asarray(load.batch, dtype=np.float64) / pools.decode_workers
    running = share if pools.decode_batch is None else np.minimum(share, pools.decode_batch)
    most, rate = running, able
    for _ in range(_ROUNDS):
        at_once = np.fmax(running, 1.0)  # where not even one fits, nothing is known but that
        later = _predict(group, pools.decode, _changed(load, at_once), "static")
        decoding_s, took_s = steps * later.tpot_s, first_s + STEPS_TO_JOIN * later.tpot_s
        most = np.minimum(most, later.running)
        rate = np.minimum(able, load.batch / (took_s + decoding_s))
        busy = np.where(decoding_s > 0, pools.decode_workers * most / decoding_s, np.inf)
        rate = np.minimum(rate, busy)
        before, running = running, np.minimum(most, rate * decoding_s / pools.decode_workers)
        settled = np.maximum(running, 1.0), np.maximum(before, 1.0)
        if np.allclose(*settled, rtol=_SETTLED, equal_nan=True):
            break
    ttft_s = np.maximum(load.batch / rate - decoding_s, took_s)
    return Columns(
        ttft_s=ttft_s,
        tpot_s=later.tpot_s,
        e2e_s=ttft_s + decoding_s,
        prefill_tok_s=able * load.input_tokens,
        decode_tok_s=rate * load.output_tokens,
        total_tok_s=rate * (load.input_tokens + load.output_tokens),
        peak_mem_B=np.full(np.shape(ttft_s), np.nan),
    )


STEPS_TO_JOIN = 1.5
"""Half of the decode step under way when a prompt's cache has come, and the one planned since."""


def _prompts(group: Group, load: Workload, pools: Pools) -> tuple[Array, Array]:
    """Seconds of a lone prompt on a prefill worker, and what one more adds while many wait.

    Where they wait, a worker takes as many into a step as fit, whatever batch it is planned for.
    """
    plan, rates = pools.prefill, issuing(group.basis.rates)
    kind = engine_on(plan.engine, group.system.device)
    fit = crowd_of(load.input_tokens, kind) * plan.attention_dp
    together = np.maximum(fit, pools.prefill_batch)
    lone, many = (
        _predict(group, plan, _changed(load, batch, output_tokens=1.0), "static", rates).ttft_s
        for batch in (1.0, together)
    )
    return lone, many / together


def _changed(load: Workload, batch: Any, output_tokens: Any = None) -> Workload:
    return Workload(
        batch=batch,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens if output_tokens is None else output_tokens,
    )


def _predict(
    group: Group, plan: Plan, load: Workload, arrival: str, rates: Rates | None = None
) -> Prediction:
    on = group.basis.on(group.system)
    chosen = rates or group.basis.rates
    return predict(group.model, group.system, plan, load, chosen, arrival, on=on, strict=False)


def _columns(found: Prediction, decode_tok_s: Any, memory_B: Any) -> Columns:
    shape = np.shape(found.e2e_s)
    values = (
        found.ttft_s,
        found.tpot_s,
        found.e2e_s,
        found.prefill_tok_s,
        decode_tok_s,
        found.total_tok_s,
        memory_B,
    )
    return Columns(*(np.broadcast_to(np.asarray(v, dtype=np.float64), shape) for v in values))


def peak_B(group: Group, load: Workload, running: Any) -> Any:
    """Weights, cache and buffers on all devices together, with the sequences that run at once.

    A server works off no more prompts in a step than its budget holds.
    """
    laid = lay(group.model, group.plan)
    if group.arrival in FIXED_BATCHES:
        return footprint_B(laid, _changed(load, running))
    kind = engine_on(group.plan.engine, group.system.device)
    crowd = crowd_of(load.input_tokens, kind) * group.plan.dp
    few = np.minimum(running, crowd)
    more = memory(laid, _changed(load, running)), memory(laid, _changed(load, few))
    cache_B = more[0].kv_B + more[0].state_B - more[1].kv_B - more[1].state_B
    return footprint_B(laid, _changed(load, few)) + cache_B * group.plan.devices


FORMS: dict[str, Form] = {
    "single": static,
    "static": static,
    "burst": burst,
    "closed_loop": closed_loop,
    "offline": offline,
    "poisson": partial(at_a_rate, spread=1.0),
    "constant": partial(at_a_rate, spread=0.0),
    "trace": partial(at_a_rate, spread=1.0),
}


def form_of(group: Group) -> Form | None:
    """The form that answers a group; None where there is none."""
    if group.pools is None:
        return FORMS.get(group.arrival)
    return partial(disaggregated, pools=group.pools)
