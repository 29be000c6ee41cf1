"""The figures of a system that timing reads, as bare numbers that broadcast.

`Machine` is what is left of a `System` once names, sources and alternatives are resolved: a few
peaks, a few bandwidths. Any of them may be an array, so that a sweep over machines, or the question
"what if bandwidth rose by 10 %", takes the same road as one prediction.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.optable import COMPUTE_INDEX
from analyzer.timing.collectives import CollectiveParams, Fabric, collective_time

VECTOR_SHARE = 1 / 16
"""Vector units' FLOP/s as a share of the 16-bit matrix peak; vector work is bound by memory."""

_BF16 = int(COMPUTE_INDEX["bf16"])


class Machine(NamedTuple):
    """Peaks and links; FLOP/s are dense, bandwidths decimal bytes per second."""

    peak_vector: NDArray[np.float64]
    """Dense FLOP/s by index in COMPUTE, with what a format falls back to where it is missing."""
    memory_Bps: Any
    memory_B: Any
    units: Any
    """Independent processors (SMs, CUs, cores)."""
    fabric: Fabric
    host_link_Bps: Any = 0.0
    disk_Bps: Any = 0.0

    @property
    def vector_flops(self) -> Any:
        """FLOP/s of what matrix units cannot do."""
        return self.peak_vector[_BF16] * VECTOR_SHARE

    def collective_s(
        self, kind: str, payload_B: Any, ranks: Any, stride: Any, latency_s: Any, link_eff: Any
    ) -> Any:
        """Seconds of one collective over `ranks` devices that lie `stride` apart."""
        params = CollectiveParams(
            base_s=latency_s,
            custom_base_s=latency_s,
            link_eff=link_eff,
            multicast_eff=link_eff,
            net_eff=link_eff,
        )
        return collective_time(kind, payload_B, ranks, self.fabric, params, "engine", stride)

    def hop_s(self, payload_B: Any, stride: Any) -> Any:
        """Seconds to hand `payload_B` to the device `stride` further on."""
        fabric = self.fabric
        near_s = fabric.link_latency_s + payload_B / fabric.link_Bps
        far_s = fabric.net_latency_s + payload_B / fabric.net_Bps
        return np.where(np.asarray(stride) >= fabric.devices_per_node, far_s, near_s)
