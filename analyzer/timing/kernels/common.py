"""What every kernel form needs: the device's figures, waves of work, a smooth maximum."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Parameter

Array = NDArray[np.float64]

CACHE_KEPT, CACHE_LOST = 0.7, 1.1
"""Data of this share of the cache stays in it between replays, or is all gone: read in turn, it
falls out within little more than the cache's size."""


class Chip(NamedTuple):
    """The figures of a device that kernels depend on; any of them may be an array."""

    peak_Fps: Any
    """Dense FLOP/s of the arithmetic in use, with fp32 accumulation."""
    memory_Bps: Any
    units: Any
    """Independent processors (SMs, CUs, cores)."""
    l2_B: Any = 0.0


def share(name: str, default: float, meaning: str, high: float = 1.1) -> Parameter:
    """An efficiency; fits may pass 1 a little because peaks are nominal."""
    return Parameter(name, "share of peak", 1.0, default, 0.01, high, meaning)


def cost(name: str, default: float, high: float, meaning: str) -> Parameter:
    """A fixed cost in seconds."""
    return Parameter(name, "s", 0.0, default, 0.0, high, meaning)


def size(name: str, unit: str, default: float, high: float, meaning: str) -> Parameter:
    """A size below which efficiency is lost; 0 on an ideal machine."""
    return Parameter(name, unit, 0.0, default, 0.0, high, meaning)


def sharpness() -> Parameter:
    """How sharply compute and memory take over from each other."""
    return Parameter("sharpness", "exponent", 64.0, 3.0, 1.0, 64.0, "1 adds, large takes the max")


def hot() -> Parameter:
    """How much faster data that stayed in the cache is read."""
    return Parameter("hot_gain", "ratio", 1.0, 1.5, 1.0, 8.0, "speed of a cache-resident read")


def soft_max(a: Array, b: Array, exponent: Any) -> Array:
    """(a^p + b^p)^(1/p): the sum at p = 1, the larger as p grows."""
    larger = np.maximum(a, b)
    ratio = np.minimum(a, b) / np.where(larger > 0, larger, 1.0)
    result: Array = larger * (1.0 + ratio**exponent) ** (1.0 / np.asarray(exponent))
    return result


def waves(items: Array, units: Any, blend: Any) -> Array:
    """Rounds that `items` equal pieces take on `units` processors.

    `blend` 0 rounds up (every round waits for its last piece), 1 shares the last round out.
    """
    rounds = items / units
    whole = np.ceil(rounds - 1e-9)
    result: Array = whole + np.asarray(blend) * (np.maximum(rounds, 1.0) - whole)
    return result


def busy(items: Array, units: Any, need: Any) -> Array:
    """Share of the memory bandwidth that `items` pieces can keep busy; `need` pieces per unit
    fill it."""
    lacking = np.asarray(need) * units / items
    result: Array = 1.0 / np.sqrt(1.0 + lacking * lacking)
    return result


def hot_factor(data_B: Array, l2_B: Any, copies: Any, gain: Any) -> Array:
    """Bandwidth gain where `copies` of the data, read in turn, stay cached; 0 copies: cold."""
    fits = np.asarray(copies) > 0
    room = np.asarray(l2_B, dtype=float)
    filled = np.asarray(copies) * data_B / np.where(room > 0, room, np.inf)
    kept = np.clip((CACHE_LOST - filled) / (CACHE_LOST - CACHE_KEPT), 0.0, 1.0)
    resident = np.where(fits & (room > 0), kept, 0.0)
    result: Array = 1.0 + (np.asarray(gain) - 1.0) * resident
    return result
