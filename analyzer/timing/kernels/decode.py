"""Attention of one new token per sequence: the cache is streamed by sequences × KV heads × splits.

A long cache is cut into splits until the processors are busy; each split pays a fixed cost and
reads its keys at what one processor can take, and the splits' partial results are combined. The
kernel is taken to choose the fastest number of splits.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.timing.kernels.common import (
    Array,
    Chip,
    busy,
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

SPLITS = (1, 2, 4, 8, 16, 32, 64, 128)

PARAMETERS: dict[str, Parameter] = {
    entry.name: entry
    for entry in (
        cost("launch_s", 6e-6, 2e-4, "fixed cost of the kernel"),
        share("memory_eff", 0.85, "streaming of the cache"),
        share("compute_eff", 0.4, "arithmetic on the cache"),
        cost("item_s", 2e-6, 1e-4, "fixed cost of one piece of work"),
        cost("item_head_s", 1e-7, 1e-5, "its cost per query head that shares the KV head"),
        size("key_overhead", "s/byte·Bps", 1.0, 50.0, "slowness of one processor's own stream"),
        Parameter("tail_blend", "share", 1.0, 0.3, 0.0, 1.0, "how well a last wave is shared out"),
        sharpness(),
        hot(),
        size("fill_need", "pieces/processor", 0.5, 8.0, "pieces that keep memory busy"),
        cost("regroup_s", 5e-7, 1e-4, "copy of queries by KV head where several of each stand"),
        cost("combine_s", 2e-6, 1e-4, "fixed cost of combining splits"),
        size("combine_cost", "ratio", 2.0, 200.0, "traffic of partial results, in bytes per byte"),
        Parameter(
            "mha_unsplit",
            "0 or 1",
            0.0,
            0.0,
            0.0,
            1.0,
            "1: the kernel cuts caches only where query heads share a KV head (FlashAttention-2)",
        ),
    )
}


class DecodeParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value per entry of PARAMETERS."""

    launch_s: Any = 6e-6
    memory_eff: Any = 0.85
    compute_eff: Any = 0.4
    item_s: Any = 2e-6
    item_head_s: Any = 1e-7
    key_overhead: Any = 1.0
    tail_blend: Any = 0.3
    sharpness: Any = 3.0
    hot_gain: Any = 1.5
    fill_need: Any = 0.5
    regroup_s: Any = 5e-7
    combine_s: Any = 2e-6
    combine_cost: Any = 2.0
    mha_unsplit: Any = 0.0

    @classmethod
    def ideal(cls) -> DecodeParams:
        """A machine that streams the cache at its peak whatever the shape."""
        return cls(**{name: entry.ideal for name, entry in PARAMETERS.items()})


class DecodeWork(NamedTuple):
    """`sequences` with `keys` each; bytes are per value of the cache."""

    sequences: Any
    keys: Any
    heads: Any
    kv_heads: Any
    head_dim: Any = 128.0
    kv_B: Any = 2.0
    act_B: Any = 2.0
    hot_copies: Any = 0.0


def decode_time(work: DecodeWork, chip: Chip, params: DecodeParams) -> Array:
    """Seconds of one decode-attention kernel, its cache write not included."""
    groups = np.asarray(work.sequences, dtype=float) * work.kv_heads
    cache_B = 2.0 * groups * np.asarray(work.keys, dtype=float) * work.head_dim * work.kv_B
    ends_B = 2.0 * np.asarray(work.sequences) * work.heads * work.head_dim * work.act_B
    gain = hot_factor(cache_B, chip.l2_B, work.hot_copies, params.hot_gain)
    moved_s = (cache_B / gain + ends_B) / (np.asarray(chip.memory_Bps) * params.memory_eff)
    best = np.asarray(np.inf)
    for splits in SPLITS:
        best = np.minimum(best, _split(work, chip, params, groups, moved_s, float(splits)))
    seconds: Array = params.launch_s + best + np.where(_regroups(work), params.regroup_s, 0.0)
    return seconds


def _regroups(work: DecodeWork) -> NDArray[np.bool_]:
    """Where the query heads of one KV head do not lie together as they come: with one sequence, one
    KV head, or one query head per KV head there is nothing to move."""
    sequences, kv_heads = np.asarray(work.sequences), np.asarray(work.kv_heads)
    shared = np.asarray(work.heads) > kv_heads
    return np.asarray((sequences > 1.0) & (kv_heads > 1.0) & shared)


def _split(
    work: DecodeWork, chip: Chip, params: DecodeParams, groups: Array, moved_s: Array, splits: float
) -> Array:
    pieces = groups * splits
    shared = np.asarray(work.heads, dtype=float) / work.kv_heads
    keys = np.maximum(np.asarray(work.keys, dtype=float) / splits, 1.0)
    own_B = 2.0 * keys * work.head_dim * work.kv_B
    unit_Bps = np.asarray(chip.memory_Bps) / chip.units
    flops = 4.0 * keys * work.head_dim * shared
    unit_Fps = np.asarray(chip.peak_Fps) * params.compute_eff / chip.units
    piece_s = (
        params.item_s
        + params.item_head_s * shared
        + params.key_overhead * own_B / unit_Bps
        + flops / unit_Fps
    )
    rounds_s = waves(pieces, chip.units, params.tail_blend) * piece_s
    stream_s = moved_s / busy(pieces, chip.units, params.fill_need)
    seconds = soft_max(rounds_s, stream_s, params.sharpness)
    if splits > 1:
        partial_B = 8.0 * splits * np.asarray(work.sequences) * work.heads * work.head_dim
        traffic_s = params.combine_cost * partial_B / np.asarray(chip.memory_Bps)
        seconds = seconds + params.combine_s + traffic_s
        refused = (np.asarray(params.mha_unsplit) > 0.5) & (shared <= 1.0)
        seconds = np.where(refused, np.inf, seconds)
    return seconds
