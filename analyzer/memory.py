"""What a scenario keeps in its fullest device, and how many sequences fit beside the weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.counting import steps
from analyzer.counting.footprint import activations_B, logits_B, weights_B
from analyzer.engines import EngineClass, engine
from analyzer.holdings import holding
from analyzer.memory_parts import (
    RESERVE_B,
    WORKSPACE_B,
    Memory,
    Stage,
    cache_of,
    on_device,
    pipeline,
)
from analyzer.moments import moments
from analyzer.phases import Laid
from analyzer.pools import sequences_in, step_tokens
from analyzer.workload import Workload

Array = NDArray[np.float64]


def memory(laid: Laid, load: Workload, kind: EngineClass | None = None) -> Memory:
    """Peak memory of the fullest device with the whole batch resident.

    `kind`: the engine with the limits that it has on such a device, where not its usual ones.
    """
    # The fullest is the same whether like stages are asked once or each.
    return _fullest([held for stage in pipeline(laid) for held in _moments(stage, load, kind)])


def footprint_B(laid: Laid, load: Workload) -> Any:
    """What the framework's allocators hold at their peaks, on all devices together."""
    per_stage = [_fullest(_moments(stage, load)) for stage in pipeline(laid, alike=False)]
    shared = sum(held.weights_B + held.kv_B + held.state_B for held in per_stage)
    rest = sum(held.allocated_B for held in per_stage) - shared
    # Where every product is gathered, one device of a stage does all but the products.
    doing = 1 if engine(laid.plan.engine).gathers_products else laid.plan.tp
    return (shared * laid.plan.tp + rest * doing) * laid.plan.dp


def _moments(stage: Stage, load: Workload, kind: EngineClass | None = None) -> list[Memory]:
    plan = stage.laid.plan
    held = holding(plan.engine, plan.holding)
    if not held.staged:
        return [_all_at_once(stage, load, kind or engine(plan.engine))]
    found = moments(stage, load, held, WORKSPACE_B)
    return [moment._replace(reserve_B=RESERVE_B) for moment in found]


def _all_at_once(stage: Stage, load: Workload, kind: EngineClass) -> Memory:
    """A server reads some requests while it answers others: everything exists together."""
    laid, cut = stage.laid, stage.layers
    whole = load.batch / laid.plan.dp
    sequences = whole / laid.plan.attention_dp
    kept = cache_of(stage, load, load.input_tokens + load.output_tokens)
    tokens = load.input_tokens - load.cached_tokens
    if kind.queues or laid.plan.chunk_tokens is not None:
        tokens = np.minimum(tokens, step_tokens(laid, tokens, kind) / whole)
    step = steps.prefill(whole, tokens, load.cached_tokens)
    whole_B = weights_B(laid.model, laid.layout, cut, stage.first, stage.last)
    return Memory(
        weights_B=whole_B * on_device(stage)[0],
        kv_B=sequences * kept.kv_B,
        state_B=sequences * kept.state_B,
        activations_B=activations_B(laid.model, step, laid.layout, cut),
        logits_B=logits_B(laid.model, step, laid.layout) if stage.last else 0.0,
        copies_B=0.0,
        workspace_B=WORKSPACE_B,
        reserve_B=RESERVE_B,
    )


def _fullest(per_stage: list[Memory]) -> Memory:
    if len(per_stage) == 1:
        return per_stage[0]
    shape = np.broadcast_shapes(*(np.shape(value) for stage in per_stage for value in stage))
    columns = [
        np.stack([np.broadcast_to(value, shape) for value in column])
        for column in zip(*per_stage, strict=True)
    ]
    fullest = np.argmax(sum(columns), axis=0)[None]
    return Memory(*(np.take_along_axis(column, fullest, axis=0)[0] for column in columns))


def capacity(
    laid: Laid, load: Workload, memory_B: Any, growth: float = 1.0, kind: EngineClass | None = None
) -> Any:
    """Sequences that fit, over all replicas; may be below one.

    `growth` is the share of the output whose cache counts: 1 for sequences at their longest, 0.5
    for sequences that started at different times. `kind` as in `memory`.
    """
    import msgspec

    kind = kind or engine(laid.plan.engine)
    groups = laid.plan.dp * laid.plan.attention_dp * 1.0
    changed = {"output_tokens": load.output_tokens * growth}
    one = msgspec.structs.replace(load, batch=groups, **changed)
    if kind.queues:
        return sequences_in(laid, one, memory_B, kind) * groups
    few, many = (
        msgspec.structs.replace(load, batch=groups * times, **changed)
        for times in (_MANY, 2 * _MANY)
    )
    room = [
        _affine(*pair, memory_B) for pair in zip(_all(laid, few), _all(laid, many), strict=True)
    ]
    shape = np.broadcast_shapes(*(np.shape(most) for most in room))
    return np.min([np.broadcast_to(most, shape) for most in room], axis=0) * groups


_MANY = 512.0
"""Sequences per replica beyond which every moment grows by the same per sequence."""


def _all(laid: Laid, load: Workload) -> list[Any]:
    """Bytes at every moment of every stage."""
    return [held.total_B for stage in pipeline(laid) for held in _moments(stage, load)]


def _affine(few_B: Any, many_B: Any, memory_B: Any) -> Any:
    """Sequences at which a moment fills the memory, from what it takes at two numbers of them."""
    each_B = (many_B - few_B) / _MANY
    free_B = memory_B - (few_B - each_B * _MANY)
    grows = each_B > 0
    most = np.where(grows, free_B / np.where(grows, each_B, 1.0), np.where(free_B < 0, 0.0, np.inf))
    return np.maximum(most, 0.0)
