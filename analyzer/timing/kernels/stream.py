"""Norms, activations, residuals, copies: bytes over bandwidth, and a fixed cost."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzer.timing.kernels.common import Array, Chip, cost, hot, hot_factor, share, size
from analyzer.timing.rates import Parameter

PARAMETERS: dict[str, Parameter] = {
    entry.name: entry
    for entry in (
        cost("launch_s", 2e-6, 2e-4, "fixed cost of the kernel"),
        share("memory_eff", 0.6, "bandwidth of long rows"),
        size("ramp_B", "bytes", 0.0, 1e8, "bytes at which half the bandwidth is met"),
        hot(),
    )
}


class StreamParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One value per entry of PARAMETERS."""

    launch_s: Any = 2e-6
    memory_eff: Any = 0.6
    ramp_B: Any = 0.0
    hot_gain: Any = 1.5

    @classmethod
    def ideal(cls) -> StreamParams:
        """A machine that streams at its peak from the first byte."""
        return cls(**{name: entry.ideal for name, entry in PARAMETERS.items()})


class StreamWork(NamedTuple):
    """Bytes read and written."""

    moved_B: Any
    hot_copies: Any = 0.0


def stream_time(work: StreamWork, chip: Chip, params: StreamParams) -> Array:
    """Seconds of one memory-bound kernel."""
    moved_B = np.asarray(work.moved_B, dtype=float)
    gain = hot_factor(moved_B, chip.l2_B, work.hot_copies, params.hot_gain)
    rate_Bps = np.asarray(chip.memory_Bps) * params.memory_eff * gain
    seconds: Array = params.launch_s + (moved_B + params.ramp_B) / rate_Bps
    return seconds
