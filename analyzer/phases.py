"""Steps composed into phases: prefill, and decoding over a context that grows.

The mean time per output token is an integral over the context, taken by three-point Gauss-Legendre
quadrature: exact for what is linear, quadratic or quintic in the context, and the nodes are one
more array axis, so they cost one call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.counting import count
from analyzer.counting.context import Layout, Segment, Step
from analyzer.model import Model
from analyzer.optable import OpTable
from analyzer.plan import Plan, Speculation, layout, stages
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import OpTimes, time_step
from analyzer.workload import Workload

Array = NDArray[np.float64]

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(3)
_NODES, _WEIGHTS = (_NODES + 1.0) / 2.0, _WEIGHTS / 2.0


class Part(NamedTuple):
    """One counted and timed step kind of a phase; `times` says how often it runs."""

    table: OpTable
    ops: OpTimes
    times: Any


class Phase(NamedTuple):
    """Seconds of one phase and where they went, shape (*scenarios)."""

    total_s: Array
    device_s: Array
    network_s: Array
    host_s: Array
    parts: tuple[Part, ...]


class Engine(NamedTuple):
    """Everything that timing a phase needs, prepared once."""

    model: Model
    plan: Plan
    layout: Layout
    machine: Machine
    rates: Rates
    draft: Engine | None = None


def prepare(model: Model, plan: Plan, machine: Machine, rates: Rates) -> Engine:
    """Resolve a plan against a model and a machine."""
    draft = None
    if plan.speculation is not None and plan.speculation.draft is not None:
        draft = Engine(
            plan.speculation.draft,
            plan,
            layout(plan.speculation.draft, plan),
            machine,
            rates,
        )
    return Engine(model, plan, layout(model, plan), machine, rates, draft)


def prefill(engine: Engine, load: Workload) -> Phase:
    """Time to the first token of a batch that arrives together."""
    batch = load.batch / engine.plan.dp
    fresh = load.input_tokens - load.cached_tokens
    if engine.plan.chunk_tokens is not None:
        phase = _chunked_prefill(engine, load, batch, fresh)
    else:
        segment = Segment(sequences=batch, new=fresh, past=load.cached_tokens)
        phase = _through_pipeline(engine, segment, batch, per_token=False)
    return phase._replace(
        total_s=phase.total_s + engine.rates.prefill_s, host_s=phase.host_s + engine.rates.prefill_s
    )


def _chunked_prefill(engine: Engine, load: Workload, batch: Any, fresh: Any) -> Phase:
    """Prompts in the order of arrival, `chunk_tokens` at a time."""
    chunk = np.minimum(float(engine.plan.chunk_tokens or 1), batch * fresh)
    whole = np.maximum(np.floor(chunk / fresh), 1.0)
    new = np.minimum(chunk, fresh)
    steps = batch * fresh / (whole * new)
    past = load.cached_tokens + _spread(np.maximum(fresh - new, 0.0))
    segment = Segment(sequences=whole, new=new, past=past)
    return _mean(_through_pipeline(engine, segment, whole, per_token=False), steps)


def decode(engine: Engine, load: Workload) -> Phase:
    """Mean time between the tokens of one sequence over its growing context."""
    batch = load.batch / engine.plan.dp
    growth = np.maximum(np.asarray(load.output_tokens, dtype=np.float64) - 2.0, 0.0)
    past = load.input_tokens + _spread(growth)
    segment = Segment(
        sequences=batch * load.beams,
        new=1.0,
        past=past,
        sharing=load.beams,
        shared_past=load.input_tokens,
    )
    if engine.plan.speculation is None:
        return _mean(_through_pipeline(engine, segment, batch, per_token=True), 1.0)
    return _speculative(engine, segment, batch, engine.plan.speculation)


def _speculative(engine: Engine, segment: Segment, batch: Any, spec: Speculation) -> Phase:
    """One verification and its drafts, shared out over the tokens that it is expected to yield."""
    verify = segment._replace(new=spec.tokens + 1.0, logits=spec.tokens + 1.0)
    phase = _mean(_through_pipeline(engine, verify, batch, per_token=True), 1.0)
    phases = [phase]
    if engine.draft is not None:
        one = _mean(_through_pipeline(engine.draft, segment, batch, per_token=True), 1.0)
        phases.append(_scaled(one, float(spec.tokens)))
    return _scaled(_sum(phases), 1.0 / expected_tokens(spec.tokens, spec.acceptance))


def expected_tokens(proposed: int, acceptance: float) -> float:
    """Tokens that one verification yields: the accepted prefix and one more."""
    if acceptance >= 1.0:
        return proposed + 1.0
    return (1.0 - acceptance ** (proposed + 1)) / (1.0 - acceptance)


def _spread(width: Any) -> Array:
    """Quadrature points over [0, width], as a new leading axis."""
    width = np.asarray(width, dtype=np.float64)
    return np.multiply.outer(_NODES, width)


def _mean(phase: Phase, times: Any) -> Phase:
    """Integrate out the leading quadrature axis, then repeat `times`."""
    sums = [np.tensordot(_WEIGHTS, np.broadcast_to(x, _nodes_shape(x)), 1) * times for x in phase[:4]]
    parts = tuple(part._replace(times=part.times * times) for part in phase.parts)
    return Phase(*sums, parts)


def _nodes_shape(values: Array) -> tuple[int, ...]:
    shape = np.shape(values)
    return shape if shape[:1] == (3,) else (3, *shape)


def _sum(phases: list[Phase]) -> Phase:
    totals = [sum(values) for values in zip(*(phase[:4] for phase in phases), strict=True)]
    return Phase(*totals, tuple(part for phase in phases for part in phase.parts))


def _scaled(phase: Phase, factor: float) -> Phase:
    parts = tuple(part._replace(times=part.times * factor) for part in phase.parts)
    return Phase(*(values * factor for values in phase[:4]), parts)


def _through_pipeline(engine: Engine, segment: Segment, batch: Any, per_token: bool) -> Phase:
    """One step of the whole batch through all pipeline stages."""
    if engine.plan.pp == 1:
        return _stage(engine, segment, None, True, True)
    pieces = _pieces(engine.plan, batch)
    piece = segment._replace(sequences=segment.sequences / pieces)
    cuts = stages(engine.model, engine.plan.pp)
    last = len(cuts) - 1
    phases = [_stage(engine, piece, cut, i == 0, i == last) for i, cut in enumerate(cuts)]
    hop_s = engine.machine.hop_s(
        piece.sequences * piece.new * engine.model.hidden * engine.layout.act_B, engine.plan.tp
    )
    filled = _sum(phases)
    slowest = np.maximum.reduce([phase.total_s for phase in phases])
    through_s = filled.total_s + last * hop_s
    if per_token:
        total_s = np.maximum(through_s, pieces * slowest)
    else:
        total_s = through_s + (pieces - 1.0) * slowest
    return filled._replace(total_s=total_s, network_s=filled.network_s + last * hop_s)


def _pieces(plan: Plan, batch: Any) -> Any:
    """Micro-batches in flight."""
    if plan.micro_batches is not None:
        return np.minimum(float(plan.micro_batches), batch)
    return np.minimum(float(plan.pp), np.maximum(batch, 1.0))


def _stage(
    engine: Engine, segment: Segment, cut: slice | None, first: bool, last: bool
) -> Phase:
    step = Step((segment,))
    table = count(engine.model, step, engine.layout, cut, with_embedding=first, with_head=last)
    timed = time_step(table, engine.machine, engine.rates, segment.sequences, with_host=last)
    part = Part(table, timed.ops, 1.0)
    return Phase(timed.total_s, timed.device_s, timed.network_s, timed.host_s, (part,))
