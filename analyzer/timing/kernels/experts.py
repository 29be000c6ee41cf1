"""A layer of routed experts: two grouped multiplications around the activation, tokens dealt out.

What is streamed is what was touched: weights of the experts that got a token, once each. Between
one token and many tokens per expert that makes a plateau, which is most of serving.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzer.timing.kernels.common import Array, Chip, cost, hot, share, sharpness, size
from analyzer.timing.kernels.gemm import GemmParams, GemmWork, body_time
from analyzer.timing.rates import Parameter

PARAMETERS: dict[str, Parameter] = {
    entry.name: entry
    for entry in (
        cost("launch_s", 2e-5, 5e-4, "fixed cost of the layer's kernels"),
        share("compute_eff", 0.6, "matrix arithmetic of grouped problems"),
        share("memory_eff", 0.75, "streaming of the touched experts"),
        size("tile_half", "elements", 1000.0, 3e4, "tile area at which half the rate is met"),
        size("prologue", "reduction steps", 60.0, 2000.0, "cost of a tile beside its reduction"),
        sharpness(),
        size("fill_need", "tiles/processor", 0.3, 8.0, "tiles that keep memory busy"),
        Parameter("tail_blend", "share", 1.0, 0.5, 0.0, 1.0, "how well a last wave is shared out"),
        share("vector_eff", 0.5, "dealing out, activation and summing of tokens"),
        hot(),
    )
}


class ExpertParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value per entry of PARAMETERS."""

    launch_s: Any = 2e-5
    compute_eff: Any = 0.6
    memory_eff: Any = 0.75
    tile_half: Any = 1000.0
    prologue: Any = 60.0
    sharpness: Any = 3.0
    fill_need: Any = 0.3
    tail_blend: Any = 0.5
    vector_eff: Any = 0.5
    hot_gain: Any = 1.5

    @classmethod
    def ideal(cls) -> ExpertParams:
        """A machine that reaches its peaks at any shape."""
        return cls(**{name: entry.ideal for name, entry in PARAMETERS.items()})


class ExpertWork(NamedTuple):
    """`rows` token-expert pairs fall on `touched` experts of this device."""

    rows: Any
    touched: Any
    hidden: Any
    width: Any
    """Of one expert, on this device."""
    weight_B: Any = 2.0
    act_B: Any = 2.0
    gated: Any = 1.0
    hot_copies: Any = 0.0
    """1 where a benchmark replays one layer, whose touched experts may stay cached; 0: cold."""


def experts_time(work: ExpertWork, chip: Chip, params: ExpertParams) -> Array:
    """Seconds of the routed part of one MoE layer on one device, communication left out."""
    mean_rows = np.asarray(work.rows, dtype=float) / work.touched
    matrices = 1.0 + np.asarray(work.gated, dtype=float)
    shared = {
        "weight_B": work.weight_B,
        "act_B": work.act_B,
        "groups": work.touched,
        "ragged": True,
    }
    copies = np.asarray(work.hot_copies, dtype=float) * (matrices + 1.0)  # of one matrix
    up = GemmWork(
        mean_rows,
        np.asarray(work.width) * matrices,
        work.hidden,
        hot_copies=copies / matrices,
        **shared,
    )
    down = GemmWork(mean_rows, work.hidden, work.width, hot_copies=copies, **shared)
    grouped = _grouped(params)
    multiplied_s = body_time(up, chip, grouped, (1,)) + body_time(down, chip, grouped, (1,))
    dealt_B = np.asarray(work.rows) * (4.0 * np.asarray(work.hidden) + 6.0 * np.asarray(work.width))
    dealt_s = dealt_B / (np.asarray(chip.memory_Bps) * params.vector_eff)
    seconds: Array = params.launch_s + multiplied_s + dealt_s
    return seconds


def _grouped(params: ExpertParams) -> GemmParams:
    return GemmParams(
        compute_eff=params.compute_eff,
        memory_eff=params.memory_eff,
        tile_half=params.tile_half,
        prologue=params.prologue,
        sharpness=params.sharpness,
        fill_need=params.fill_need,
        tail_blend=params.tail_blend,
        hot_gain=params.hot_gain,
        split_cost=0.0,
        sustained_share=1.0,
        few_rows=0.0,
        few_fill=0.0,
    )


def touched_experts(tokens: Any, experts: Any, top_k: Any) -> Array:
    """Experts that get at least one of `tokens` tokens when each takes `top_k` at random."""
    missed = (1.0 - np.asarray(top_k, dtype=float) / experts) ** np.asarray(tokens, dtype=float)
    touched: Array = np.asarray(experts) * (1.0 - missed)
    return touched
