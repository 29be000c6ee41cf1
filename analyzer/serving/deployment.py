"""A model on a system as a deployment that can be simulated: limits, KV blocks, step times.

Not imported by the package itself: the simulator stays free of models and machines. What an engine
decides by itself (limits by the device's memory, KV blocks by what the weights leave) is decided
here in the same way and said; figures from the engine's own log are always better.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzer.answer import check_arithmetic, settle
from analyzer.basis import Basis
from analyzer.counting.cache import cache_B
from analyzer.engines import engine as engine_class
from analyzer.errors import ConfigError
from analyzer.model import Model
from analyzer.phases import Laid, lay
from analyzer.plan import Plan
from analyzer.serving.options import EngineOptions, Host, Speculation
from analyzer.serving.steps import kv_blocks, step_timer
from analyzer.serving.tables import TableTimer
from analyzer.system import System
from analyzer.timing.machine import machine
from analyzer.units import GIB

LARGE_B = 70 * GIB
"""Devices with so much memory get vLLM's larger limits; an A100 does not."""
LARGEST_B = 160 * GIB
LONGEST = 131_072


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the engine was told; None: what it decides by itself."""

    kv_blocks: int | None = None
    block_tokens: int = 16
    max_batched_tokens: int | None = None
    max_sequences: int | None = None
    max_model_tokens: int | None = None
    memory_share: float = 0.9
    """Of the device's memory, for weights, activations and cache together."""
    prefix_caching: bool = True
    chunked_prefill: bool = True
    asynchronous: bool | None = None
    """Whether a step is scheduled while the one before it runs; None: as the engine does."""
    request_s: float | None = None


class Deployment(NamedTuple):
    """Everything that a simulation needs beside its load."""

    laid: Laid
    engine: EngineOptions
    timer: TableTimer
    replicas: int
    kv_token_B: float
    """Cache of one token, on all devices of a replica."""
    assumed: tuple[str, ...]
    """What was not given but decided here."""


def deploy(model: Model, system: System, plan: Plan, basis: Basis, limits: Limits) -> Deployment:
    """Settle every limit, count the KV blocks, make the tables of step times.

    Replicas of `plan.dp`, and groups of `plan.attention_dp`, are engines of their own: each has its
    queue and its blocks. Raises ConfigError for what cannot be simulated, CapacityError if the
    weights leave no room.
    """
    if plan.speculation is not None and plan.speculation.draft is not None:
        raise ConfigError("the simulator takes drafting to be free; leave the draft model out")
    if plan.offload is not None:
        raise ConfigError("the simulator does not know offloading; leave those shares out")
    settled = settle(plan, model, basis)
    check_arithmetic(settled, model, system)
    laid = lay(model, settled)
    assumed: list[str] = []
    engine = _engine(laid, system, limits, assumed)
    timer = step_timer(laid, machine(system), basis.rates, engine)
    request_s = limits.request_s
    if request_s is None:
        request_s = basis.rates.prefill_s
        assumed.append(f"{request_s * 1e3:.3g} ms from a request's arrival to the queue")
    ahead = limits.asynchronous
    if ahead is None:
        ahead = engine_class(settled.engine).family == "vllm"
        if ahead:
            assumed.append("steps scheduled while the one before runs, as vLLM since 0.14")
    host = Host(request_s=request_s, overlapped=ahead)
    engine = msgspec.structs.replace(engine, host=host)
    engines = int(settled.dp * settled.attention_dp)
    return Deployment(laid, engine, timer, engines, _kv_token_B(laid), tuple(assumed))


def _kv_token_B(laid: Laid) -> float:
    """Bytes of cache that one more token takes, on all devices of its replica."""
    ranks = laid.plan.tp / laid.plan.attention_dp
    step = 1024.0
    held = [float(cache_B(laid.model, laid.layout, tokens).kv_B) for tokens in (step, 2 * step)]
    return float((held[1] - held[0]) / step * ranks)


def _engine(laid: Laid, system: System, limits: Limits, assumed: list[str]) -> EngineOptions:
    tokens, sequences = _usual_limits(system)
    engine = EngineOptions(
        kv_blocks=limits.kv_blocks or 1,
        block_tokens=limits.block_tokens,
        max_batched_tokens=limits.max_batched_tokens or tokens,
        max_sequences=limits.max_sequences or min(sequences, limits.max_batched_tokens or tokens),
        max_model_tokens=limits.max_model_tokens or laid.model.max_context or LONGEST,
        prefix_caching=limits.prefix_caching,
        chunked_prefill=limits.chunked_prefill,
        speculation=_speculation(laid.plan),
    )
    if limits.max_batched_tokens is None:
        assumed.append(f"{engine.max_batched_tokens} tokens a step, as vLLM on such a device")
    if limits.max_sequences is None:
        assumed.append(f"{engine.max_sequences} sequences at once, as vLLM on such a device")
    if limits.kv_blocks is not None:
        return engine
    memory_B = float(system.device.memory_B)
    blocks = kv_blocks(laid, memory_B, limits.memory_share, engine)
    assumed.append(
        f"{blocks} KV blocks of {engine.block_tokens} tokens: what weights and activations leave "
        f"of {limits.memory_share:.0%} of the memory"
    )
    return msgspec.structs.replace(engine, kv_blocks=blocks)


def _usual_limits(system: System) -> tuple[int, int]:
    """vLLM's server: tokens of a step, sequences at once (0.20 to 0.32)."""
    memory_B = float(system.device.memory_B)
    if memory_B >= LARGEST_B:
        return 16_384, 1024
    if memory_B >= LARGE_B and "A100" not in system.device.name:
        return 8192, 1024
    return 2048, 256


def _speculation(plan: Plan) -> Speculation | None:
    if plan.speculation is None:
        return None
    return Speculation(tokens=plan.speculation.tokens, acceptance=plan.speculation.acceptance)
