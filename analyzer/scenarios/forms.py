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

from analyzer.engines import engine
from analyzer.memory import footprint_B
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.predict import Prediction, predict
from analyzer.scenarios.groups import Group, Pools
from analyzer.workload import Workload

Array = NDArray[np.float64]

_ROUNDS = 6
"""Rounds of a fixed point that settles within two or three."""
_SETTLED = 1e-4
_GRID = 40
"""Concurrencies at which the throughput under load is looked at."""


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
    full = Workload(
        batch=np.full(np.shape(load.batch), _most_running(group)),
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
    )
    found = closed_loop(group, full)
    nothing = np.full(np.shape(found.ttft_s), np.nan)
    return found._replace(ttft_s=nothing, e2e_s=nothing)


def _most_running(group: Group) -> float:
    """Sequences that the engine runs at once unless told otherwise, over all replicas."""
    return engine(group.plan.engine).max_sequences * float(group.plan.dp)


def poisson(group: Group, load: Workload) -> Columns:
    """`group.rate_per_s` requests a second: the concurrency at which as many leave as come."""
    most = _most_running(group)
    steps = np.geomspace(1.0, most, _GRID)
    rows = np.size(load.input_tokens)
    wide = Workload(
        batch=np.tile(steps, rows),
        input_tokens=np.repeat(load.input_tokens, _GRID),
        output_tokens=np.repeat(load.output_tokens, _GRID),
    )
    found = closed_loop(group, wide)
    rate = float(group.rate_per_s or np.nan)
    leaving = (wide.batch / found.e2e_s).reshape(rows, _GRID)
    columns = [np.asarray(column).reshape(rows, _GRID) for column in found]
    level = [_at_rate(rate, leaving[row], [c[row] for c in columns]) for row in range(rows)]
    settled = Columns(*(np.array(column) for column in zip(*level, strict=True)))
    output_tok_s = rate * np.asarray(load.output_tokens) + 0.0 * settled.ttft_s
    total_tok_s = output_tok_s + rate * np.asarray(load.input_tokens)
    return settled._replace(decode_tok_s=output_tok_s, total_tok_s=total_tok_s)


def _at_rate(rate: float, leaving: Array, columns: list[Array]) -> list[float]:
    """Each column where `leaving` reaches the rate; NaN where it never does."""
    rising = np.maximum.accumulate(leaving)
    if rate >= rising[-1]:
        return [float("nan")] * len(columns)
    return [float(np.interp(rate, rising, column)) for column in columns]


def disaggregated(group: Group, load: Workload, pools: Pools) -> Columns:
    """Prompts on workers of their own: the slower pool sets the pace, the rest waits before it.

    The pools' own times bound the throughput (`load.batch` requests circulate); what a request
    does not spend in decoding it spends up to its first token.
    """
    first = _predict(
        group, pools.prefill, _changed(load, pools.prefill_batch, output_tokens=1.0), "static"
    )
    able = pools.prefill_workers * pools.prefill_batch / first.ttft_s
    steps = np.maximum(load.output_tokens - 1.0, 0.0)
    share = np.asarray(load.batch, dtype=np.float64) / pools.decode_workers
    running = share if pools.decode_batch is None else np.minimum(share, pools.decode_batch)
    most, rate = running, able
    for _ in range(_ROUNDS):
        later = _predict(group, pools.decode, _changed(load, np.maximum(running, 1.0)), "static")
        decoding_s = steps * later.tpot_s
        most = np.minimum(most, later.running)
        rate = np.minimum(able, load.batch / (first.ttft_s + decoding_s))
        busy = np.where(decoding_s > 0, pools.decode_workers * most / decoding_s, np.inf)
        rate = np.minimum(rate, busy)
        before, running = running, np.minimum(most, rate * decoding_s / pools.decode_workers)
        settled = np.maximum(running, 1.0), np.maximum(before, 1.0)
        if np.allclose(*settled, rtol=_SETTLED, equal_nan=True):
            break
    ttft_s = np.maximum(load.batch / rate - decoding_s, first.ttft_s)
    return Columns(
        ttft_s=ttft_s,
        tpot_s=later.tpot_s,
        e2e_s=ttft_s + decoding_s,
        prefill_tok_s=able * load.input_tokens,
        decode_tok_s=rate * load.output_tokens,
        total_tok_s=rate * (load.input_tokens + load.output_tokens),
        peak_mem_B=np.full(np.shape(ttft_s), np.nan),
    )


def _changed(load: Workload, batch: Any, output_tokens: Any = None) -> Workload:
    return Workload(
        batch=batch,
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens if output_tokens is None else output_tokens,
    )


def _predict(group: Group, plan: Plan, load: Workload, arrival: str) -> Prediction:
    return predict(group.model, group.system, plan, load, group.basis.rates, arrival, strict=False)


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
    """Weights, cache and buffers on all devices together, with the sequences that run at once."""
    return footprint_B(lay(group.model, group.plan), _changed(load, running))


FORMS: dict[str, Form] = {
    "single": static,
    "static": static,
    "burst": static,
    "closed_loop": closed_loop,
    "offline": offline,
    "poisson": poisson,
}


def form_of(group: Group) -> Form | None:
    """The form that answers a group; None where there is none."""
    if group.pools is None:
        return FORMS.get(group.arrival)
    return partial(disaggregated, pools=group.pools)
