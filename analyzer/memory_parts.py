"""The parts that memory is told in, and the stage of a pipeline that they are counted for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from analyzer.counting.alike import of_stages
from analyzer.counting.cache import Kept, cache_B
from analyzer.phases import Laid
from analyzer.plan import stages
from analyzer.workload import Workload

WORKSPACE_B = 8.125 * 2**20
"""What a matrix-multiplication library sets aside (cuBLAS on Ampere: 8 MiB and 128 KiB)."""
RESERVE_B = 0.5e9
"""What a GPU's driver context and runtime take before the first tensor."""


class Memory(NamedTuple):
    """Bytes on the fullest device when it is fullest, shape (*scenarios)."""

    weights_B: Any
    kv_B: Any
    state_B: Any
    activations_B: Any
    logits_B: Any
    copies_B: Any
    """What exists twice at that moment: a cache that is appended to, projections being joined."""
    workspace_B: Any
    """Rooms of libraries and kernels, and tables."""
    reserve_B: Any

    @property
    def allocated_B(self) -> Any:
        """What the framework's allocator holds at its peak."""
        return sum(self[:-1])

    @property
    def total_B(self) -> Any:
        """All of it, the driver's share included."""
        return sum(self)


class Stage(NamedTuple):
    """Layers that one device of a pipeline holds."""

    laid: Laid
    layers: slice
    first: bool
    last: bool


LAYERS_IN_FLIGHT = 2
"""Of what lies beside the device: one layer's part is used while the next one's comes in."""


def on_device(stage: Stage) -> tuple[float, float]:
    """Shares of a stage's weights and cache that take room on the device."""
    offload = stage.laid.plan.offload
    if offload is None:
        return 1.0, 1.0
    staged = min(LAYERS_IN_FLIGHT / len(stage.laid.model.layers[stage.layers]), 1.0)
    weights, kv = (1.0 - away * (1.0 - staged) for away in (offload.weights_away, offload.kv_away))
    return weights, kv


def pipeline(laid: Laid, alike: bool = True) -> list[Stage]:
    """The stages of the pipeline; `alike`: of several that are alike only the first."""
    cuts = stages(laid.model, laid.plan.pp)
    last = len(cuts) - 1

    def stage(index: int, cut: slice) -> Stage:
        return Stage(laid, cut, index == 0, index == last)

    if not alike:
        return [stage(index, cut) for index, cut in enumerate(cuts)]
    return list({id(found): found for found in of_stages(laid.model, cuts, stage)}.values())


def cache_of(stage: Stage, load: Workload, tokens: Any) -> Kept:
    """What the stage's device keeps of one request at that length; beams share its prompt."""
    laid = stage.laid
    beams = np.asarray(load.beams, dtype=np.float64)
    read = np.minimum(load.input_tokens, tokens)
    prompt = cache_B(laid.model, laid.layout, read, stage.layers)
    whole = cache_B(laid.model, laid.layout, tokens, stage.layers)
    kv = beams * whole.kv_B - (beams - 1.0) * prompt.kv_B
    return Kept(kv * on_device(stage)[1], beams * whole.state_B)
