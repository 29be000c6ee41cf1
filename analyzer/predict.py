"""THE entry point: a model, a system, a plan and a workload in; a `Prediction` out.

All numbers may be arrays of one shape; one scenario and a million take this same road.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.counting.parameters import count_parameters
from analyzer.engines import EngineClass, engine, engine_on, told
from analyzer.errors import CapacityError, ConfigError
from analyzer.memory import capacity, memory
from analyzer.memory_parts import Memory
from analyzer.model import Model
from analyzer.phases import Laid, count_decode, count_prefill, lay
from analyzer.plan import Plan
from analyzer.resolve import check_plan
from analyzer.spill import check_stores, fetching
from analyzer.steady import (
    Busy,
    Hold,
    Latency,
    closed_loop,
    crowd_of,
    polled,
    static_batch,
    waves,
)
from analyzer.system import System
from analyzer.timing.machine import Machine, machine
from analyzer.timing.phase import Phase, issuing, time_phase, time_prefill
from analyzer.timing.rates import Rates
from analyzer.workload import Workload, check

Array = NDArray[np.float64]


class Prediction(NamedTuple):
    """What a scenario takes: seconds, bytes per device, and tokens/s of the whole system."""

    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    prefill_tok_s: Array
    """Prompt tokens per second of prefill, whole system."""
    decode_tok_s: Array
    """Output tokens per second of decoding, whole system."""
    total_tok_s: Array
    """Prompt and output tokens per second of the whole time, whole system."""
    memory: Memory
    max_batch: Any
    """Sequences whose cache fits at full length, over all replicas."""
    running: Any
    """Sequences that run at once; fewer than asked for where the cache is full."""
    prefill: Phase
    decode: Phase
    energy_J_per_token: Any
    usd_per_million_tokens: Any


GROWN = {"static": 1.0, "closed_loop": 0.5}
"""Share of the output whose cache counts: all end together, or each stands somewhere on its way."""


def predict(
    model: Model,
    system: System,
    plan: Plan,
    workload: Workload,
    rates: Rates | None = None,
    arrival: str = "static",
    queue: bool | None = None,
    on: Machine | None = None,
    strict: bool = True,
) -> Prediction:
    """Predict latencies, throughput, memory, energy and cost.

    `arrival` is "static" (all sequences start together) or "closed_loop" (workload.batch requests
    in the system at all times). `queue`: sequences that do not fit wait for room; by default the
    engine decides, and a scenario that can neither fit nor wait raises CapacityError. `on` stands
    in for the system's own figures, as in a sensitivity analysis. Without `strict`, figures of
    scenarios that cannot fit are NaN and nothing is raised.
    """
    check(workload)
    if not isinstance(plan.tp, np.ndarray):
        check_plan(plan, model, system)
    check_context(model, workload)
    kind = told(engine_on(plan.engine, system.device), plan)
    laid = lay(model, plan)
    limits = on or machine(system)
    check_stores(laid, workload, system)
    used = memory(laid, workload, kind)
    share = kind.memory_share
    if arrival not in _TIMERS:
        raise ConfigError(f"arrival {arrival!r} is unknown; use one of {', '.join(_TIMERS)}")
    fits = capacity(laid, workload, limits.memory_B * share, grown(arrival, kind), kind)
    if arrival == "closed_loop":
        fits = np.minimum(fits, kind.max_sequences * plan.dp)
    waits = kind.queues if queue is None else queue
    impossible = (fits < 1.0) if waits else (used.total_B > limits.memory_B) | (fits < 1.0)
    if strict and np.any(impossible):
        raise CapacityError(_too_large(model, system, used, limits.memory_B, fits, kind))
    running = _running(workload.batch, fits, waits)
    if waits and np.any(running < workload.batch):
        used = memory(laid, msgspec.structs.replace(workload, batch=running), kind)
    asked = _Asked(laid, workload, limits, rates or Rates.default(), system)
    timed = _TIMERS[arrival](asked, running)
    found = _assemble(system, plan, workload, used, fits, running, timed)
    return _without(found, impossible) if np.any(impossible) else found


def grown(arrival: str, kind: EngineClass) -> float:
    """Share of the output whose cache counts when it is asked how many sequences fit."""
    return GROWN[arrival] if arrival == "static" else max(GROWN[arrival], kind.reserves)


class _Timed(NamedTuple):
    latency: Latency
    prefill: Phase
    decode: Phase
    prompts_at_once: Any


class _Asked(NamedTuple):
    laid: Laid
    load: Workload
    on: Machine
    rates: Rates
    system: System

    def prefill(self, batch: Any) -> Phase:
        """From arrival to first tokens, of `batch` prompts together."""
        load = msgspec.structs.replace(self.load, batch=batch)
        phase = time_prefill(count_prefill(self.laid, load), self.on, self.rates)
        return fetching(phase, self.laid, self.on, self.rates, self.system)

    def decode(self, batch: Any) -> Phase:
        """One output token of `batch` sequences."""
        load = msgspec.structs.replace(self.load, batch=batch)
        phase = time_phase(count_decode(self.laid, load), self.on, self.rates)
        return fetching(phase, self.laid, self.on, self.rates, self.system)


def _static(asked: _Asked, running: Any) -> _Timed:
    load = asked.load
    first, later = asked.prefill(running), asked.decode(running)
    latency = static_batch(first.total_s, later.total_s, load.output_tokens)
    return _Timed(waves(latency, load.batch, running), first, later, running)


def _closed_loop(asked: _Asked, running: Any) -> _Timed:
    load, plan = asked.load, asked.laid.plan
    replicas = plan.dp
    prompts = asked._replace(rates=issuing(asked.rates))
    kind = told(engine_on(plan.engine, asked.system.device), plan)
    crowd = crowd_of(load.input_tokens - load.cached_tokens, kind)
    first = prompts.prefill(np.minimum(running, 1.0) * replicas)
    together = prompts.prefill(crowd * replicas)
    later = asked.decode(running)
    work_s = (together.total_s - asked.rates.prefill_s) / crowd
    latency = closed_loop(
        Busy(first.total_s + asked.rates.token_s * load.input_tokens, work_s, later.total_s),
        load.output_tokens,
        load.batch / replicas,
        running / replicas,
        asked.rates,
        polled(kind, plan, load.batch / replicas),
        Hold(plan.batch_wait, plan.attention_dp) if plan.batch_wait else None,
    )
    return _Timed(latency, first, later, replicas)


_TIMERS = {"static": _static, "closed_loop": _closed_loop}


ROOM_DOUBT = 0.02
"""Room for a cache is counted no better than this: a batch that exceeds it by less is let in."""


def _running(batch: Any, fits: Any, waits: bool) -> Any:
    """Sequences at once; where nothing has to wait, as compact an array as the batch."""
    if not waits or np.all(fits >= batch):
        return batch * 1.0
    room = np.where(fits * (1.0 + ROOM_DOUBT) >= batch, batch, np.floor(fits))
    return np.minimum(batch, np.maximum(room, 1.0))


def _without(found: Prediction, impossible: Any) -> Prediction:
    """No figures where the scenario does not fit."""
    times: dict[str, Any] = {
        name: np.where(impossible, np.nan, getattr(found, name)) for name in Prediction._fields[:6]
    }
    costs: dict[str, Any] = {
        name: np.where(impossible, np.nan, value)
        for name in ("energy_J_per_token", "usd_per_million_tokens")
        if (value := getattr(found, name)) is not None
    }
    return found._replace(**times, **costs)


def _too_large(
    model: Model, system: System, used: Memory, memory_B: Any, fits: Any, kind: EngineClass
) -> str:
    needs, has = float(np.max(used.total_B)), float(np.min(memory_B))
    most = int(np.min(np.floor(fits)))
    room = f"; at most {most} sequences fit: lower the batch, or use more tp or pp" if most else ""
    return (
        f"{model.name} does not fit {system.name}: it needs {needs / 1e9:.1f} GB per device "
        f"(weights {float(np.max(used.weights_B)) / 1e9:.1f} GB) and a device has "
        f"{has / 1e9:.1f} GB{of_which(kind)}{room}"
    )


def of_which(kind: EngineClass) -> str:
    """What an engine that leaves a part of the memory alone makes of a device's figure."""
    return f", of which {kind.name} takes {kind.memory_share:.0%}" if kind.memory_share < 1 else ""


def check_context(model: Model, workload: Workload) -> None:
    """Refuse sequences that are longer than the model can read."""
    if model.max_context is None:
        return
    longest = np.max(np.asarray(workload.input_tokens) + np.asarray(workload.output_tokens))
    if longest > model.max_context:
        raise ConfigError(
            f"{model.name} reads at most {model.max_context} tokens, the workload needs "
            f"{longest:.0f} (prompt and output); shorten it or choose a longer-context model"
        )


def _assemble(
    system: System,
    plan: Plan,
    load: Workload,
    used: Memory,
    fits: Any,
    running: Any,
    timed: _Timed,
) -> Prediction:
    latency, first, later = timed.latency, timed.prefill, timed.decode
    at_once = timed.prompts_at_once
    total_tok_s = load.batch * (load.input_tokens + load.output_tokens) / latency.e2e_s
    output_tok_s = load.batch * load.output_tokens / latency.e2e_s
    return Prediction(
        ttft_s=latency.ttft_s,
        tpot_s=latency.tpot_s,
        e2e_s=latency.e2e_s,
        prefill_tok_s=at_once * (load.input_tokens - load.cached_tokens) / first.total_s,
        decode_tok_s=running * load.beams / latency.tpot_s,
        total_tok_s=total_tok_s,
        memory=used,
        max_batch=np.floor(fits),
        running=running,
        prefill=first,
        decode=later,
        energy_J_per_token=_energy(system, plan, first, later, load, output_tok_s),
        usd_per_million_tokens=_cost(system, plan, output_tok_s),
    )


def _energy(
    system: System, plan: Plan, first: Phase, later: Phase, load: Workload, output_tok_s: Any
) -> Any:
    """Idle power always, the rest of the power limit while devices are busy."""
    device = system.device
    if device.tdp_W is None:
        return None
    idle_W = device.idle_W or 0.0
    steps = np.maximum(np.asarray(load.output_tokens) - 1.0, 0.0)
    busy_s = first.device_s + steps * later.device_s
    wall_s = first.total_s + steps * later.total_s
    power_W = (idle_W + (device.tdp_W - idle_W) * busy_s / wall_s) * plan.devices
    return power_W / output_tok_s


def _cost(system: System, plan: Plan, output_tok_s: Any) -> Any:
    price = system.device.price_usd_per_hour
    if price is None:
        return None
    return price / 3600.0 * plan.devices / output_tok_s * 1e6


def sizes(model: Model) -> tuple[int, int]:
    """Parameters of the model: all, and those that one token's pass can touch."""
    counted = count_parameters(model)
    return counted.total, counted.active


def behaviour(plan: Plan) -> EngineClass:
    """How the plan's engine behaves."""
    return engine(plan.engine)
