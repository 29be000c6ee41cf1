"""What a server sets aside at its start, and what of it is left for the cache.

vLLM and its like take a share of the device's memory, try their largest step out beside the
weights, and give all that is left to the cache, whatever requests come later.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzer.counting import steps
from analyzer.counting.footprint import activations_B, logits_B, weights_B
from analyzer.engines import EngineClass
from analyzer.memory_parts import RESERVE_B, WORKSPACE_B, Stage, cache_of, on_device, pipeline
from analyzer.phases import Laid
from analyzer.workload import Workload


def sequences_in(laid: Laid, one: Workload, memory_B: Any, kind: EngineClass) -> Any:
    """Sequences of a replica whose cache a server has room for, beside its largest step."""
    found = []
    for stage in pipeline(laid):
        each_B = cache_of(stage, one, one.input_tokens + one.output_tokens).total_B
        free_B = _left_B(stage, one, memory_B, kind)
        grows = each_B > 0
        found.append(np.where(grows, free_B / np.where(grows, each_B, 1.0), np.inf))
    shape = np.broadcast_shapes(*(np.shape(most) for most in found))
    least = np.min([np.broadcast_to(most, shape) for most in found], axis=0)
    return np.maximum(least, 0.0)


class Room(NamedTuple):
    """What a server's fullest device has left for the cache of the sequences that it holds."""

    bytes: Any
    tokens: Any
    """Of a cache that grows with every token; 0 where none does."""


def cache_room(laid: Laid, load: Workload, memory_B: Any, kind: EngineClass) -> Room:
    """Room for the cache in `memory_B`, on the stage that has room for the fewest tokens."""
    one = msgspec.structs.replace(load, batch=laid.plan.dp * laid.plan.attention_dp * 1.0)
    rooms = []
    for stage in pipeline(laid):
        free_B = _left_B(stage, one, memory_B, kind)
        length = one.input_tokens + one.output_tokens
        each_B = cache_of(stage, one, length).kv_B / length
        tokens = np.where(each_B > 0, free_B / np.where(each_B > 0, each_B, 1.0), 0.0)
        rooms.append(Room(free_B, tokens))
    return min(rooms, key=lambda room: float(np.min(room.tokens)))


def _left_B(stage: Stage, one: Workload, memory_B: Any, kind: EngineClass) -> Any:
    """Bytes for the cache on a stage's device, of the share `memory_B` of its memory."""
    beside_B = beside_cache_B(stage, one.input_tokens - one.cached_tokens, kind)
    # A share of the rest: s (M - b) is s M - s b.
    return memory_B - beside_B * (kind.memory_share if kind.share_of == "rest" else 1.0)


def beside_cache_B(stage: Stage, longest: Any, kind: EngineClass) -> Any:
    """What a server's device holds beside the cache while it runs its largest step.

    vLLM and its like try such a step out at their start: as many tokens as a step takes, and
    logits of as many sequences as it runs. SGLang leaves room for that beyond its share.
    """
    laid = stage.laid
    whole_B = weights_B(laid.model, laid.layout, stage.layers, stage.first, stage.last)
    resident_B = whole_B * on_device(stage)[0] + WORKSPACE_B + RESERVE_B
    if not kind.tries_step:
        return resident_B
    tokens = step_tokens(laid, longest, kind)
    step = steps.prefill(laid.plan.attention_dp * 1.0, tokens)
    active_B = activations_B(laid.model, step, laid.layout, stage.layers)
    sampled = steps.decode(np.minimum(min(kind.max_sequences, kind.sampled), tokens), 0.0)
    wide_B = logits_B(laid.model, sampled, laid.layout) if stage.last else 0.0
    return resident_B + active_B + wide_B


def step_tokens(laid: Laid, longest: Any, kind: EngineClass) -> Any:
    """Prompt tokens of a server's largest step."""
    if laid.plan.chunk_tokens is not None:
        return float(laid.plan.chunk_tokens)
    return kind.step_tokens if kind.splits_prompts else np.maximum(longest, kind.step_tokens)
