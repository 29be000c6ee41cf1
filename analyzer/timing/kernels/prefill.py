"""Attention of many new tokens: tiles of query rows in waves, each against the keys it may see.

Query heads that share a KV head may be packed into one tile, which short chunks need. Under a
causal mask tiles differ in length; the longest one bounds the time when there are few.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzer.timing.kernels.common import (
    Array,
    Chip,
    cost,
    hot,
    hot_factor,
    share,
    sharpness,
    size,
    soft_max,
    waves,
)
from analyzer.timing.rates import Parameter

ROWS = (64, 128)

PARAMETERS: dict[str, Parameter] = {
    entry.name: entry
    for entry in (
        cost("launch_s", 8e-6, 2e-4, "fixed cost of the kernel"),
        share("compute_eff", 0.65, "attention arithmetic, full tiles"),
        share("memory_eff", 0.5, "streaming of queries, keys, values and results"),
        size("prologue", "keys", 100.0, 4000.0, "cost of a tile beside its keys"),
        size("half_tile_loss", "ratio", 0.3, 4.0, "slowdown of a tile of half the rows"),
        Parameter("tail_blend", "share", 1.0, 0.5, 0.0, 1.0, "how well a last wave is shared out"),
        Parameter("balance", "share", 0.0, 0.3, 0.0, 1.0, "weight of the longest tile"),
        sharpness(),
        hot(),
    )
}


class PrefillParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value per entry of PARAMETERS."""

    launch_s: Any = 8e-6
    compute_eff: Any = 0.65
    memory_eff: Any = 0.5
    prologue: Any = 100.0
    half_tile_loss: Any = 0.3
    tail_blend: Any = 0.5
    balance: Any = 0.3
    sharpness: Any = 3.0
    hot_gain: Any = 1.5

    @classmethod
    def ideal(cls) -> PrefillParams:
        """A machine at its peak whatever the shape."""
        return cls(**{name: entry.ideal for name, entry in PARAMETERS.items()})


class PrefillWork(NamedTuple):
    """`sequences` of `new` tokens with `past` keys cached before them."""

    sequences: Any
    new: Any
    past: Any
    heads: Any
    kv_heads: Any
    head_dim: Any = 128.0
    kv_B: Any = 2.0
    act_B: Any = 2.0
    hot_copies: Any = 0.0


def prefill_time(work: PrefillWork, chip: Chip, params: PrefillParams) -> Array:
    """Seconds of causal attention of the new tokens over past and new keys."""
    moved_s = _stream(work, chip, params)
    best = np.asarray(np.inf)
    for rows in ROWS:
        for packed in (False, True):
            compute_s = _tiled(work, chip, params, float(rows), packed)
            best = np.minimum(best, soft_max(compute_s, moved_s, params.sharpness))
    seconds: Array = params.launch_s + best
    return seconds


def _stream(work: PrefillWork, chip: Chip, params: PrefillParams) -> Array:
    keys = np.asarray(work.past, dtype=float) + work.new
    sequences = np.asarray(work.sequences, dtype=float)
    cache_B = 2.0 * sequences * work.kv_heads * keys * work.head_dim * work.kv_B
    ends_B = 2.0 * sequences * work.new * work.heads * work.head_dim * work.act_B
    gain = hot_factor(cache_B + ends_B, chip.l2_B, work.hot_copies, params.hot_gain)
    seconds: Array = (cache_B + ends_B) / (np.asarray(chip.memory_Bps) * params.memory_eff * gain)
    return seconds


def _tiled(
    work: PrefillWork, chip: Chip, params: PrefillParams, rows: float, packed: bool
) -> Array:
    new, past = np.asarray(work.new, dtype=float), np.asarray(work.past, dtype=float)
    shared = np.asarray(work.heads, dtype=float) / work.kv_heads if packed else 1.0
    heads = np.asarray(work.heads, dtype=float) / shared
    tokens = np.minimum(rows / shared, new)  # of one tile
    tiles = np.ceil(new * shared / rows)
    mean_keys = past + np.minimum(tokens * (tiles + 1.0) / 2.0, new)
    slower = 1.0 + params.half_tile_loss * (128.0 / rows - 1.0)
    unit_Fps = np.asarray(chip.peak_Fps) * params.compute_eff / chip.units
    key_s = 4.0 * rows * work.head_dim * slower / unit_Fps
    effort = mean_keys + params.prologue
    longest = past + new + params.prologue
    pieces = np.asarray(work.sequences, dtype=float) * heads * tiles
    rounds_s = waves(pieces, chip.units, params.tail_blend) * effort * key_s
    spread_s = params.balance * (longest - effort) * key_s
    seconds: Array = rounds_s + np.maximum(spread_s, 0.0)
    return seconds
