"""Phases as counted steps: prefill, and decoding over a context that grows.

Counting needs no machine, so a phase is counted once and timed as often as one likes
(`timing/phase.py`). The mean time per output token is an integral over the context, taken by
two-point Gauss-Legendre quadrature: exact for what is up to cubic in the context; the points are
one more leading array axis, so they cost one call.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.counting import count
from analyzer.counting.alike import of_stages
from analyzer.counting.context import Layout, Segment, Step
from analyzer.model import Model
from analyzer.plan import Plan, Speculation, layout, stages
from analyzer.releases import asynchronous
from analyzer.workload import Workload

Array = NDArray[np.float64]

_POINTS, _SHARES = np.polynomial.legendre.leggauss(2)
POINTS: Array = (_POINTS + 1.0) / 2.0
SHARES: Array = _SHARES / 2.0


class CountedStep(NamedTuple):
    """One kind of step, counted per pipeline stage, and how often a phase runs it."""

    tables: tuple[Any, ...]
    """OpTables; or FlatTables, where a fit has laid many models end to end."""
    times: Any
    """Executions in the phase; with `quadrature`, of the mean over the leading axis."""
    quadrature: bool
    sequences: Any
    """Sequences in the step that a host attends to: ranks that hold sequences of their own have
    each a scheduler of its own."""
    pieces: Any = 1.0
    """Micro-batches that the pipeline works on at once."""
    hop_B: Any = 0.0
    """Bytes handed from stage to stage per micro-batch."""
    hop_stride: Any = 1.0
    hops: Any = 0.0
    """Times that a micro-batch is handed on."""
    saved: Any = 0.0
    """Executions fewer that it is as long as where successive ones follow one another through the
    pipeline without a gap."""
    unfed: Any = 0.0
    """Of those saved, what the one thread that starts all kernels cannot bring about."""
    overlap: Any = 1.0
    """Micro-batches like the tables that hide each other's communication."""
    per_token: bool = False
    """True where the pipeline stays full (decoding), False where it fills and drains (prefill)."""
    hidden: Any = 0.0
    """1 where the host prepares a step while the device runs the one before."""


class Laid(NamedTuple):
    """A model under a plan, resolved once."""

    model: Model
    plan: Plan
    layout: Layout
    draft: Laid | None = None


def lay(model: Model, plan: Plan) -> Laid:
    """Resolve a plan against a model."""
    draft = None
    if plan.speculation is not None and plan.speculation.draft is not None:
        model_2 = plan.speculation.draft
        draft = Laid(model_2, plan, layout(model_2, plan))
    return Laid(model, plan, layout(model, plan), draft)


def count_prefill(laid: Laid, load: Workload) -> tuple[CountedStep, ...]:
    """Steps from the arrival of a batch to its first tokens."""
    batch = load.batch / laid.plan.dp
    fresh = load.input_tokens - load.cached_tokens
    if laid.plan.chunk_tokens is not None:
        return (_chunks(laid, load, batch, fresh),)
    segment = Segment(sequences=batch, new=fresh, past=load.cached_tokens)
    return (_step(laid, segment, batch, 1.0),)


def _chunks(laid: Laid, load: Workload, batch: Any, fresh: Any) -> CountedStep:
    """Prompts in the order of arrival, `chunk_tokens` at a time."""
    chunk = np.minimum(float(laid.plan.chunk_tokens or 1), batch * fresh)
    whole = np.maximum(np.floor(chunk / fresh), 1.0)
    new = np.minimum(chunk, fresh)
    past = load.cached_tokens + _spread(np.maximum(fresh - new, 0.0), _axes(laid, load))
    segment = Segment(sequences=whole, new=new, past=past)
    times = batch * fresh / (whole * new)
    step = _step(laid, segment, whole, times, quadrature=True)
    if not laid.plan.chunks_overlap:
        return step
    # a step is timed as all stages in turn; once the pipeline is full, each stage ends a chunk
    pp, further = laid.plan.pp, np.maximum(times - 1.0, 0.0)
    unfed = unfed_periods(pp, LAUNCH_QUEUE * pp / _kernels(step.tables[0]), further)
    return step._replace(saved=further * (pp - 1.0) / pp, unfed=unfed / pp)


LAUNCH_QUEUE = 1024.0
"""Kernels that wait for a device at most; whoever starts one more waits for it (CUDA)."""


def unfed_periods(stages: Any, ahead: Any, further: Any) -> Any:
    """Times of a stage by which one thread that starts all kernels delays `further` chunks.

    The thread gets `ahead` passes of a stage ahead of it, n whole ones and a rest. It is through
    with a chunk once of the chunk n before only that rest is left in the last stage, and the chunk
    after starts no sooner: n + 1 chunks take the time of all stages less the rest. The first n that
    follow are not held up.
    """
    whole = np.floor(ahead)
    period = np.maximum(1.0, (stages - (ahead - whole)) / (whole + 1.0))
    return np.maximum(further - whole, 0.0) * (period - 1.0)


def _kernels(table: Any) -> Any:
    """Kernels that one pass through all stages starts."""
    started = np.add.reduce(np.asarray(table.columns["launches"] * table.columns["repeat"]))
    return started[0] if np.ndim(started) else started


def count_decode(laid: Laid, load: Workload) -> tuple[CountedStep, ...]:
    """Steps of one output token, averaged over the growing context."""
    batch = load.batch / laid.plan.dp
    growth = np.maximum(np.asarray(load.output_tokens, dtype=np.float64) - 2.0, 0.0)
    segment = Segment(
        sequences=batch * load.beams,
        new=1.0,
        past=load.input_tokens + _spread(growth, _axes(laid, load)),
        sharing=load.beams,
        shared_past=load.input_tokens,
    )
    if laid.plan.speculation is None:
        return (_step(laid, segment, batch, 1.0, quadrature=True, per_token=True),)
    return _speculate(laid, segment, batch, laid.plan.speculation)


def _speculate(
    laid: Laid, segment: Segment, batch: Any, spec: Speculation
) -> tuple[CountedStep, ...]:
    """One verification and its drafts, shared out over the tokens that it is expected to yield."""
    share = 1.0 / expected_tokens(spec.tokens, spec.acceptance)
    verify = segment._replace(new=spec.tokens + 1.0, logits=spec.tokens + 1.0)
    steps = [_step(laid, verify, batch, share, quadrature=True, per_token=True)]
    if laid.draft is not None:
        times = share * spec.tokens
        steps.append(_step(laid.draft, segment, batch, times, quadrature=True, per_token=True))
    return tuple(steps)


def expected_tokens(proposed: int, acceptance: float) -> float:
    """Tokens that one verification yields: the accepted prefix and one more."""
    if acceptance >= 1.0:
        return proposed + 1.0
    return float((1.0 - acceptance ** (proposed + 1)) / (1.0 - acceptance))


def _axes(laid: Laid, load: Workload) -> int:
    """Axes of the scenarios, whichever number they come from."""
    plan = laid.plan
    numbers = (
        load.batch, load.input_tokens, load.output_tokens, load.beams, load.cached_tokens,
        plan.tp, plan.dp, plan.ep, plan.attention_dp,
    )  # fmt: skip
    return max(map(np.ndim, numbers))


def _spread(width: Any, axes: int) -> Array:
    """Quadrature points over [0, width], as a new axis that leads those of the scenarios."""
    widths = np.asarray(width, dtype=np.float64)
    return np.multiply.outer(POINTS, widths.reshape((1,) * (axes - widths.ndim) + widths.shape))


def _step(
    laid: Laid,
    segment: Segment,
    batch: Any,
    times: Any,
    quadrature: bool = False,
    per_token: bool = False,
) -> CountedStep:
    """One step of the whole batch through all pipeline stages."""
    alone = laid.plan.micro_batches == 1
    pp = 1 if alone else laid.plan.pp  # stages that never overlap are timed as one
    pieces = _pieces(laid.plan, batch) if pp > 1 else 1.0
    overlap = _beside(laid.plan, segment.sequences / pieces)
    piece = segment._replace(sequences=segment.sequences / (pieces * overlap))
    cuts = stages(laid.model, pp)

    def stage(index: int, cut: slice) -> Any:
        return count(
            laid.model,
            Step((piece,)),
            laid.layout,
            cut if pp > 1 else None,
            with_embedding=index == 0,
            with_head=index == pp - 1,
        )

    tables = tuple(of_stages(laid.model, cuts, stage))
    hop_B = piece.sequences * overlap * piece.new * laid.model.hidden * laid.layout.act_B
    return CountedStep(
        tables,
        times,
        quadrature,
        np.maximum(segment.sequences / laid.plan.attention_dp, 1.0),
        pieces,
        hop_B,
        laid.layout.tp,
        laid.plan.pp - 1.0,
        overlap=overlap,
        per_token=per_token,
        hidden=float(plans_ahead(laid.plan)),
    )


def plans_ahead(plan: Plan) -> bool:
    """Whether the host prepares a step while the device runs the one before."""
    return asynchronous(plan.engine) if plan.asynchronous is None else plan.asynchronous


def _pieces(plan: Plan, batch: Any) -> Any:
    """Micro-batches in flight."""
    wanted = float(plan.pp if plan.micro_batches is None else plan.micro_batches)
    return np.minimum(wanted, np.maximum(batch, 1.0))


def _beside(plan: Plan, sequences: Any) -> Any:
    """Micro-batches that run beside one another; none is less than a sequence."""
    if plan.overlap == 1:
        return 1.0
    return np.clip(np.floor(sequences), 1.0, float(plan.overlap))
