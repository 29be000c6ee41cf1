"""Rows that share everything but their numbers: names looked up once, rates chosen once."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from analyzer.answer import check_arithmetic, settle
from analyzer.basis import Basis, calibrated, generation, uncalibrated
from analyzer.engines import engine
from analyzer.errors import ConfigError
from analyzer.model import Model
from analyzer.plan import Plan
from analyzer.quirks import repaired
from analyzer.records import Pool, Scenario
from analyzer.records_arrival import ArrivalKind, stated_count
from analyzer.records_engine import tells_generation
from analyzer.resolve import question
from analyzer.system import System

Choose = Callable[[System, str, str], Basis]
"""(system, engine class, kind of arrival) → the rates to predict with."""


class Pools(NamedTuple):
    """Two sets of workers: one reads prompts, the other writes answers."""

    prefill: Plan
    decode: Plan
    prefill_workers: int
    decode_workers: int
    prefill_batch: float
    """Prompts that a worker is planned to read at once."""
    decode_batch: float | None
    """Sequences that a worker writes at once at most."""
    counted: bool = True
    """Both numbers of workers were stated, not taken for 1."""


class Group(NamedTuple):
    """Everything about a set of rows that does not vary among them."""

    model: Model
    """Without its limit of context, which is checked row by row."""
    max_context: int | None
    system: System
    plan: Plan
    arrival: ArrivalKind
    rate_per_s: float | None
    stated: float | None
    """Requests at once, where the arrival's own words say how many."""
    basis: Basis
    queues: bool
    pools: Pools | None = None


def resolve(scenario: Scenario, source: str, date: str, choose: Choose = calibrated) -> Group:
    """Look up every name; InputError where one is unknown or the layout cannot be."""
    stated = repaired(scenario, source)
    stated = msgspec.structs.replace(
        stated, input_tokens=1.0, output_tokens=1.0, concurrency=stated.concurrency or 1.0
    )
    pools = _pools(stated, date)
    if pools is not None:
        stated = _as_pool(stated, stated.decode_pool or Pool())
    asked = question(stated, date)
    name, kind = asked.engine.name, asked.arrival.kind
    if not tells_generation(stated.engine, stated.engine_version, date):
        name = generation(asked.system, name, kind)
        if name != asked.engine.name:
            asked = asked._replace(plan=_under(name, asked.plan, stated, asked.model))
            pools = pools and pools._replace(
                prefill=_under(name, pools.prefill, stated, asked.model),
                decode=_under(name, pools.decode, stated, asked.model),
            )
    basis = choose(asked.system, "" if not stated.engine.strip() else name, kind)
    if not stated.engine.strip() and basis.calibration is not None:
        name = basis.calibration.engine
        asked = asked._replace(plan=_under(name, asked.plan, stated, asked.model))
    check_arithmetic(asked.plan, asked.model, asked.system)
    return Group(
        model=asked.model.unlimited(),
        max_context=asked.model.max_context,
        system=asked.system,
        plan=asked.plan,
        arrival=kind,
        rate_per_s=asked.arrival.rate_per_s,
        stated=stated_count(asked.arrival),
        basis=basis,
        queues=engine(name).queues,
        pools=pools,
    )


def _under(name: str, plan: Plan, stated: Scenario, model: Model) -> Plan:
    """The plan as another generation of the engine runs it."""
    bare = msgspec.structs.replace(
        plan,
        engine=name,
        kv=stated.kv_precision,
        chunk_tokens=None,
        micro_batches=None,
        asynchronous=None,
    )
    return settle(bare, model, uncalibrated())


def _pools(stated: Scenario, date: str) -> Pools | None:
    first, later = stated.prefill_pool, stated.decode_pool
    if first is None and later is None:
        return None
    if first is None or later is None:
        missing = "prefill" if first is None else "decode"
        raise ConfigError(f"the {missing} pool is not described; give {missing}_tp and the rest")
    return Pools(
        prefill=question(_as_pool(stated, first), date).plan,
        decode=question(_as_pool(stated, later), date).plan,
        prefill_workers=first.workers or 1,
        decode_workers=later.workers or 1,
        prefill_batch=(first.batch or 1.0) * first.attention_dp,
        decode_batch=None if later.batch is None else later.batch * later.attention_dp,
        counted=first.workers is not None and later.workers is not None,
    )


def _as_pool(stated: Scenario, pool: Pool) -> Scenario:
    """The scenario of one worker of a pool."""
    return msgspec.structs.replace(
        stated,
        gpus=None,
        tp=pool.tp,
        pp=pool.pp,
        ep=None,
        attention_dp=pool.attention_dp,
        moe_tp=pool.moe_tp,
        moe_ep=pool.moe_ep,
    )
