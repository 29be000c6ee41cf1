"""Continuous batching in its steady state, in closed form.

With `concurrency` requests always in the system, every output token of a sequence waits for one
decode step and for its share of the prompts that are worked off meanwhile; each request's own
prompt waits for some of its fellows'; and when the cache cannot hold them all, the rest queue and
Little's law says for how long. The event-driven simulator in `serving/` answers what this cannot:
percentiles, traces, schedulers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer import phases
from analyzer.phases import Engine
from analyzer.workload import Workload

Array = NDArray[np.float64]


class Steady(NamedTuple):
    """Mean latencies of a request and the number that run at once, shape (*scenarios)."""

    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    running: Array
    queued_s: Array
    prefill: phases.Phase
    decode: phases.Phase


def closed_loop(engine: Engine, load: Workload, capacity: Any) -> Steady:
    """`load.batch` requests in the system at all times; `capacity` of them fit the cache."""
    running = np.minimum(load.batch, np.maximum(capacity, 1.0))
    alone, decoding, own_s = _phases(engine, load, running)
    per_replica = running / engine.plan.dp
    tpot_s = decoding.total_s + engine.rates.interference * per_replica * own_s / load.output_tokens
    fellows_s = engine.rates.burst * np.maximum(per_replica - 1.0, 0.0) * own_s
    served_s = alone.total_s + fellows_s
    steps = np.maximum(load.output_tokens - 1.0, 0.0)
    queued_s = (served_s + steps * tpot_s) * (load.batch / running - 1.0)
    ttft_s = served_s + queued_s
    return Steady(
        ttft_s, tpot_s, ttft_s + steps * tpot_s, running, queued_s, alone, decoding
    )


def offline(engine: Engine, load: Workload, capacity: Any) -> Steady:
    """All requests queued at the start; the machine stays as full as its cache allows."""
    return closed_loop(engine, load, capacity)


def open_loop(engine: Engine, load: Workload, rate_per_s: Any, capacity: Any) -> Steady:
    """Requests arrive at `rate_per_s`; Little's law finds how many are in the system.

    Where the arrivals outrun the machine, the queue grows without bound and latencies are infinite.
    """
    low = np.zeros(np.broadcast_shapes(np.shape(rate_per_s), np.shape(load.input_tokens)))
    high = low + np.maximum(capacity, 1.0)
    full = closed_loop(engine, _with_batch(load, high), capacity)
    for _ in range(40):
        middle = (low + high) / 2.0
        steady = closed_loop(engine, _with_batch(load, np.maximum(middle, 1e-3)), capacity)
        too_few = rate_per_s * steady.e2e_s > middle
        low, high = np.where(too_few, middle, low), np.where(too_few, high, middle)
    steady = closed_loop(engine, _with_batch(load, np.maximum(high, 1e-3)), capacity)
    overrun = rate_per_s * full.e2e_s > full.running
    late = [np.where(overrun, np.inf, x) for x in (steady.ttft_s, steady.tpot_s, steady.e2e_s)]
    return steady._replace(ttft_s=late[0], tpot_s=late[1], e2e_s=late[2])


def _phases(engine: Engine, load: Workload, running: Any) -> tuple[phases.Phase, phases.Phase, Any]:
    """Prefill of one request, decode of the running ones, and a prefill's own device time."""
    one = phases.prefill(engine, _with_batch(load, np.minimum(running, 1.0) * engine.plan.dp))
    decoding = phases.decode(engine, _with_batch(load, running))
    return one, decoding, one.device_s


def _with_batch(load: Workload, batch: Any) -> Workload:
    return msgspec.structs.replace(load, batch=batch)
