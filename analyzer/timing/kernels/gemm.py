"""Dense matrix multiplication: tiles in waves over the processors, beside streaming the operands.

The library is taken to choose, among the tile sizes and reduction splits below, what is fastest for
the shape. Fewer rows than a tile waste arithmetic, fewer tiles than processors waste processors
and, when really few, bandwidth; short reductions waste a tile's prologue.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

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

TILES = [(rows, columns) for rows in (16, 32, 64, 128, 256) for columns in (32, 64, 128, 256)]
SPLITS = (1, 2, 4, 8, 16)
MAX_TILE = 256 * 256
THROTTLE_SHARPNESS = 3.0
"""How suddenly: within a factor of two of `burst_s` nearly all of the loss is there."""
_BLOCK = 1 << 17
"""Elements worked on at once: enough to amortise, few enough to stay in cache."""

PARAMETERS: dict[str, Parameter] = {
    entry.name: entry
    for entry in (
        cost("launch_s", 3e-6, 2e-4, "fixed cost of the kernel"),
        share("compute_eff", 0.85, "matrix arithmetic, largest tiles"),
        share("memory_eff", 0.82, "streaming of operands"),
        size("tile_half", "elements", 1000.0, 3e4, "tile area at which half the rate is met"),
        size("prologue", "reduction steps", 60.0, 2000.0, "cost of a tile beside its reduction"),
        sharpness(),
        hot(),
        size("fill_need", "tiles/processor", 0.3, 8.0, "tiles that keep memory busy"),
        size("split_cost", "ratio", 1.0, 64.0, "traffic of partial sums, in bytes per byte"),
        Parameter("tail_blend", "share", 1.0, 0.2, 0.0, 1.0, "how well a last wave is shared out"),
        Parameter(
            "sustained_share",
            "share of peak",
            1.0,
            0.95,
            0.2,
            1.0,
            "arithmetic that the power limit leaves a kernel that lasts, of a short one's",
        ),
        Parameter(
            "burst_s", "s", 1.0, 2e-3, 5e-5, 1.0, "how long arithmetic runs before the clock falls"
        ),
        size("few_rows", "rows", 0.1, 8.0, "rows below which kernels for vectors stream worse"),
        size("few_fill", "rows", 0.1, 30.0, "rows below which kernels for vectors need more tiles"),
        cost("quantise_s", 0.0, 2e-4, "fixed cost of narrowing activations first"),
        share("quantise_eff", 0.4, "bandwidth of narrowing activations"),
    )
}


class GemmParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value per entry of PARAMETERS."""

    launch_s: Any = 3e-6
    compute_eff: Any = 0.85
    memory_eff: Any = 0.82
    tile_half: Any = 1000.0
    prologue: Any = 60.0
    sharpness: Any = 3.0
    hot_gain: Any = 1.5
    fill_need: Any = 0.3
    split_cost: Any = 1.0
    tail_blend: Any = 0.2
    sustained_share: Any = 0.95
    burst_s: Any = 2e-3
    few_rows: Any = 0.1
    few_fill: Any = 0.1
    quantise_s: Any = 0.0
    quantise_eff: Any = 0.4

    @classmethod
    def ideal(cls) -> GemmParams:
        """A machine that reaches its peaks at any shape."""
        return cls(**{name: entry.ideal for name, entry in PARAMETERS.items()})


class GemmWork(NamedTuple):
    """m rows of activations times k×n weights; bytes are per value."""

    m: Any
    n: Any
    k: Any
    weight_B: Any = 2.0
    act_B: Any = 2.0
    out_B: Any = 2.0
    narrowed: Any = 0.0
    """1 where activations come in 16 bits and are narrowed to `act_B` by a pass of their own."""
    hot_copies: Any = 0.0
    """Copies of the weights that a benchmark cycles through; 0: cold, as in serving."""
    groups: Any = 1.0
    """Like problems in one launch; `m` rows each on average."""
    ragged: bool = False
    """True where groups differ in rows (routed experts), so that tiles are cut unevenly."""


def gemm_time(work: GemmWork, chip: Chip, params: GemmParams) -> Array:
    """Seconds of the multiplication, narrowing of activations included."""
    best = body_time(work, chip, params, SPLITS)
    seconds: Array = params.launch_s + best + _narrowing(work, chip, params)
    return seconds


def body_time(work: GemmWork, chip: Chip, params: GemmParams, splits: tuple[int, ...]) -> Array:
    """Seconds of the multiplication alone, at the best tile and split."""
    moved_s = _stream(work, chip, params)
    values = (*work[:-1], *chip, *msgspec.structs.astuple(params), moved_s)
    axes = max(np.ndim(value) for value in values)
    choices = np.array([(*tile, split) for tile in TILES for split in splits], dtype=float)
    rows_at_once = max(1, _BLOCK // max(np.size(value) for value in values))
    best = np.asarray(np.inf)
    for start in range(0, len(choices), rows_at_once):
        block = choices[start : start + rows_at_once].T.reshape(3, -1, *(1,) * axes)
        best = np.minimum(best, _tiled(work, chip, params, moved_s, block).min(axis=0))
    return best


def _stream(work: GemmWork, chip: Chip, params: GemmParams) -> Array:
    m, n, k = (np.asarray(value, dtype=float) for value in (work.m, work.n, work.k))
    weights_B = n * k * work.weight_B * work.groups
    gain = hot_factor(weights_B, chip.l2_B, work.hot_copies, params.hot_gain)
    moved_B = weights_B / gain + work.groups * m * (k * work.act_B + n * work.out_B)
    seconds: Array = moved_B / (np.asarray(chip.memory_Bps) * params.memory_eff)
    return seconds


def _row_tiles(m: Array, rows: Array, ragged: bool) -> Array:
    """Tiles along the rows of one group; uneven groups fill their last tile half on average."""
    tiles: Array = np.maximum(m / rows + 0.5, 1.0) if ragged else np.ceil(m / rows)
    return tiles


def _tiled(work: GemmWork, chip: Chip, params: GemmParams, moved_s: Array, choices: Array) -> Array:
    """Seconds for each choice of (tile rows, tile columns, split), along the first axis."""
    rows, columns, split = choices
    m, n, k = (np.asarray(value, dtype=float) for value in (work.m, work.n, work.k))
    tiles = _row_tiles(m, rows, work.ragged) * np.ceil(n / columns) * split * work.groups
    area = rows * columns
    rate = chip.peak_Fps / np.asarray(chip.units) * params.compute_eff * area
    rate = rate * (1.0 + params.tile_half / MAX_TILE) / (area + np.asarray(params.tile_half))
    per_tile = 2.0 * area * (k / split + params.prologue)
    compute_s = waves(tiles, chip.units, params.tail_blend) * per_tile / rate
    compute_s = _throttled(compute_s, params)
    need = params.fill_need * (1.0 + np.asarray(params.few_fill) / m)
    memory_s = moved_s * (1.0 + np.asarray(params.few_rows) / m) / busy(tiles, chip.units, need)
    partial_B = np.where(split > 1, 8.0 * split, 0.0) * m * n * work.groups
    partial_s = params.split_cost * partial_B / np.asarray(chip.memory_Bps)
    seconds: Array = soft_max(compute_s, memory_s, params.sharpness) + partial_s
    return seconds


def _throttled(compute_s: Array, params: GemmParams) -> Array:
    """Seconds of arithmetic once the power limit has lowered the clock of kernels that last."""
    lasting = 1.0 / (1.0 + (np.asarray(params.burst_s) / compute_s) ** THROTTLE_SHARPNESS)
    seconds: Array = compute_s * (1.0 + (1.0 / np.asarray(params.sustained_share) - 1.0) * lasting)
    return seconds


def _narrowing(work: GemmWork, chip: Chip, params: GemmParams) -> Array:
    moved_B = np.asarray(work.m, dtype=float) * work.k * (2.0 + np.asarray(work.act_B))
    streaming_s = moved_B * work.groups / (np.asarray(chip.memory_Bps) * params.quantise_eff)
    seconds: Array = np.asarray(work.narrowed) * (params.quantise_s + streaming_s)
    return seconds
