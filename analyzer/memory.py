"""What a scenario keeps in its fullest device, and how many sequences fit beside the weights."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.counting import steps
from analyzer.counting.alike import of_stages
from analyzer.counting.cache import cache_B
from analyzer.counting.footprint import activations_B, logits_B, weights_B
from analyzer.phases import Laid
from analyzer.plan import stages
from analyzer.workload import Workload

Array = NDArray[np.float64]

WORKSPACE_B = 8.125 * 2**20
"""What a matrix-multiplication library sets aside (cuBLAS on Ampere: 8 MiB and 128 KiB)."""
RESERVE_B = 0.5e9
"""What a GPU's driver context and runtime take before the first tensor."""


class Memory(NamedTuple):
    """Bytes on the fullest device, shape (*scenarios)."""

    weights_B: Any
    kv_B: Any
    state_B: Any
    activations_B: Any
    logits_B: Any
    workspace_B: Any
    reserve_B: Any

    @property
    def allocated_B(self) -> Any:
        """What the framework's allocator holds at its peak."""
        return sum(self[:-1])

    @property
    def total_B(self) -> Any:
        """All of it, the driver's share included."""
        return sum(self)


def memory(laid: Laid, load: Workload, logits_everywhere: bool = False) -> Memory:
    """Peak memory per device with the whole batch resident.

    `logits_everywhere`: the engine keeps logits of every prompt position, not of the last alone.
    """
    cuts = stages(laid.model, laid.plan.pp)
    last = len(cuts) - 1

    def stage(index: int, cut: slice) -> Memory:
        return _stage(laid, load, cut, index == 0, index == last, logits_everywhere)

    # The fullest is the same whether like stages are asked once or each.
    per_stage = {id(held): held for held in of_stages(laid.model, cuts, stage)}
    return _fullest(list(per_stage.values()))


def footprint_B(laid: Laid, load: Workload) -> Any:
    """What the framework's allocators hold at their peak, on all devices together."""
    cuts = stages(laid.model, laid.plan.pp)
    last = len(cuts) - 1
    held = [
        _stage(laid, load, cut, index == 0, index == last, False).allocated_B
        for index, cut in enumerate(cuts)
    ]
    return sum(held) * laid.plan.tp * laid.plan.dp


def _stage(
    laid: Laid, load: Workload, cut: slice, first: bool, last: bool, everywhere: bool
) -> Memory:
    sequences = load.batch / laid.plan.dp / laid.plan.attention_dp
    whole = load.batch / laid.plan.dp
    context = load.input_tokens + load.output_tokens
    held = cache_B(laid.model, laid.layout, context, cut)
    prompt = cache_B(laid.model, laid.layout, load.input_tokens, cut)
    beams = np.asarray(load.beams, dtype=np.float64)
    kv = sequences * (beams * held.kv_B - (beams - 1.0) * prompt.kv_B)
    tokens = load.input_tokens - load.cached_tokens
    if laid.plan.chunk_tokens is not None:
        tokens = np.minimum(tokens, laid.plan.chunk_tokens / whole)
    step = steps.prefill(whole, tokens, load.cached_tokens)
    rows = step._replace(segments=(step.segments[0]._replace(logits=tokens),))
    logits = logits_B(laid.model, rows if everywhere else step, laid.layout) if last else 0.0
    whole_B = weights_B(laid.model, laid.layout, cut, first, last)
    weights_here, kv_here = _on_device(laid, cut)
    return Memory(
        weights_B=whole_B * weights_here,
        kv_B=kv * kv_here,
        state_B=sequences * beams * held.state_B,
        activations_B=activations_B(laid.model, step, laid.layout, cut),
        logits_B=logits,
        workspace_B=WORKSPACE_B,
        reserve_B=RESERVE_B,
    )


LAYERS_IN_FLIGHT = 2
"""Of what lies beside the device: one layer's part is used while the next one's comes in."""


def _on_device(laid: Laid, cut: slice) -> tuple[float, float]:
    """Shares of a stage's weights and cache that take room on the device."""
    offload = laid.plan.offload
    if offload is None:
        return 1.0, 1.0
    staged = min(LAYERS_IN_FLIGHT / len(laid.model.layers[cut]), 1.0)
    weights, kv = (1.0 - away * (1.0 - staged) for away in (offload.weights_away, offload.kv_away))
    return weights, kv


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


def capacity(laid: Laid, load: Workload, memory_B: Any, growth: float = 1.0) -> Any:
    """Sequences whose cache fits beside the weights, over all replicas; may be below one.

    `growth` is the share of the output whose cache counts: 1 for sequences at their longest, 0.5
    for sequences that started at different times.
    """
    import msgspec

    one = msgspec.structs.replace(
        load,
        batch=laid.plan.dp * laid.plan.attention_dp * 1.0,
        output_tokens=load.output_tokens * growth,
    )
    used = memory(laid, one)
    per_sequence = used.kv_B + used.state_B
    free = memory_B - (used.total_B - per_sequence)
    sequences = np.where(
        per_sequence > 0, free / np.where(per_sequence > 0, per_sequence, 1.0), np.inf
    )
    return np.maximum(sequences, 0.0) * laid.plan.dp * laid.plan.attention_dp
