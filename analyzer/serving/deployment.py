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
from analyzer.errors import ConfigError
from analyzer.model import Model
from analyzer.phases import Laid, lay
from analyzer.plan import Offload, Plan
from analyzer.releases import asynchronous
from analyzer.serving.habits import Habits, habits, version_of
from analyzer.serving.options import EngineOptions, Host, Speculation
from analyzer.serving.steps import kv_blocks, slowest_share, step_timer
from analyzer.serving.tables import TableTimer
from analyzer.system import System
from analyzer.timing.machine import machine

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
    engine_version: str = ""
    """Whose habits it has, such as 0.11.0; empty: the newest."""
    prefix_caching: bool | None = None
    chunked_prefill: bool | None = None
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
    router: str
    """How the engine itself deals requests out among its data-parallel ranks."""
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
    if plan.offload is not None and plan.offload != Offload(weights_host=plan.offload.weights_host):
        raise ConfigError(
            "of what is offloaded the simulator knows weights in host memory only; leave the other "
            "shares out"
        )
    settled = settle(plan, model, basis, system)
    check_arithmetic(settled, model, system)
    laid = lay(model, settled)
    assumed: list[str] = []
    longest = limits.max_model_tokens or int(laid.model.max_context or LONGEST)
    version = version_of(limits.engine_version)
    usual = habits(settled.engine, version, system.device, longest)
    laid = _paced(laid, limits, usual)
    engine = _engine(laid, system, limits, usual, assumed)
    on = machine(system)
    timer = step_timer(laid, on, basis.rates, engine, usual.graph_tokens)
    host = _host(limits, basis, usual.asynchronous and settled.pp == 1, assumed)
    slowest = slowest_share(laid, on, basis.rates) if settled.pp > 1 else 0.0
    engine = msgspec.structs.replace(
        engine, host=host, stages=int(settled.pp), slowest_stage=slowest
    )
    engines = int(settled.dp * settled.attention_dp)
    router = usual.router if engines > 1 else "round_robin"
    if engines > 1:
        assumed.append(f"requests dealt out {router} among {engines} ranks, as the engine does")
    return Deployment(laid, engine, timer, engines, _kv_token_B(laid), router, tuple(assumed))


def _paced(laid: Laid, limits: Limits, usual: Habits) -> Laid:
    """With the host's work hidden or not, where rates of the engine know the difference."""
    if not asynchronous(laid.plan.engine):
        return laid
    ahead = usual.asynchronous if limits.asynchronous is None else limits.asynchronous
    return lay(laid.model, msgspec.structs.replace(laid.plan, asynchronous=ahead))


def _host(limits: Limits, basis: Basis, usual: bool, assumed: list[str]) -> Host:
    request_s = limits.request_s
    if request_s is None:
        request_s = basis.rates.prefill_s
        assumed.append(f"{request_s * 1e3:.3g} ms from a request's arrival to the queue")
    ahead = limits.asynchronous
    if ahead is None:
        ahead = usual
        if ahead:
            assumed.append("steps scheduled while the one before runs, as the engine does")
    return Host(request_s=request_s, overlapped=ahead)


def _kv_token_B(laid: Laid) -> float:
    """Bytes of cache that one more token takes, on all devices of its replica."""
    ranks = laid.plan.tp / laid.plan.attention_dp
    step = 1024.0
    held = [float(cache_B(laid.model, laid.layout, tokens).kv_B) for tokens in (step, 2 * step)]
    return float((held[1] - held[0]) / step * ranks)


def _engine(
    laid: Laid, system: System, limits: Limits, usual: Habits, assumed: list[str]
) -> EngineOptions:
    tokens = limits.max_batched_tokens or usual.step_tokens
    chunked = _told(limits.chunked_prefill, usual.chunked_prefill)
    engine = EngineOptions(
        kv_blocks=limits.kv_blocks or 1,
        block_tokens=limits.block_tokens,
        max_batched_tokens=tokens,
        max_sequences=limits.max_sequences or min(usual.sequences, tokens),
        max_model_tokens=limits.max_model_tokens or int(laid.model.max_context or LONGEST),
        prefix_caching=_told(limits.prefix_caching, usual.prefix_caching),
        chunked_prefill=chunked,
        reserve_whole_prompt=usual.reserve_whole_prompt or not chunked,
        reserve_answer=usual.reserve_answer,
        prompts_alone=usual.prompts_alone,
        watermark=usual.watermark,
        speculation=_speculation(laid.plan),
    )
    assumed += _assumptions(engine, limits)
    if limits.kv_blocks is not None:
        return engine
    memory_B = float(system.device.memory_B)
    blocks = kv_blocks(laid, memory_B, limits.memory_share, engine)
    assumed.append(
        f"{blocks} KV blocks of {engine.block_tokens} tokens: what weights and activations leave "
        f"of {limits.memory_share:.0%} of the memory"
    )
    return msgspec.structs.replace(engine, kv_blocks=blocks)


def _told(said: bool | None, usual: bool) -> bool:
    return usual if said is None else said


def _assumptions(engine: EngineOptions, limits: Limits) -> list[str]:
    """What the engine was not told and decides by itself, in words."""
    found = []
    if limits.max_batched_tokens is None:
        found.append(f"{engine.max_batched_tokens} tokens a step, as the engine on such a device")
    if limits.max_sequences is None:
        found.append(f"{engine.max_sequences} sequences at once, as the engine on such a device")
    if engine.prompts_alone:
        found.append("prompts in steps of their own, before answers, as the engine does")
    if not engine.chunked_prefill and limits.chunked_prefill is None:
        found.append("prompts that are never cut, as the engine does")
    if engine.reserve_answer:
        found.append("requests let in only if their whole answers fit, as the engine does")
    return found


def _speculation(plan: Plan) -> Speculation | None:
    if plan.speculation is None:
        return None
    return Speculation(tokens=plan.speculation.tokens, acceptance=plan.speculation.acceptance)
