"""The figures of a system that timing reads, as bare numbers that broadcast.

`Machine` is what is left of a `System` once names, sources and alternatives are resolved: a few
peaks, a few bandwidths. Any of them may be an array, so that a sweep over machines, or the question
"what if bandwidth rose by 10 %", takes the same road as one prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.optable import COMPUTE
from analyzer.system import System

VECTOR_SHARE = 1 / 16
"""Vector units' FLOP/s as a share of the 16-bit matrix peak; vector work is bound by memory."""


class Fabric(NamedTuple):
    """A link between devices, one direction of one device."""

    bandwidth_Bps: Any
    latency_s: Any
    topology: str = "switch"


class Machine(NamedTuple):
    """Peaks and links; FLOP/s are dense, bandwidths decimal bytes per second."""

    peak_vector: NDArray[np.float64]
    """Dense FLOP/s by index in COMPUTE, with what a format falls back to where it is missing."""
    memory_Bps: Any
    memory_B: Any
    units: Any
    """Independent processors (SMs, CUs, cores)."""
    l2_B: Any
    inside: Fabric
    """Between devices of one node."""
    outside: Fabric
    """Between nodes."""
    devices_per_node: Any
    host_link_Bps: Any
    disk_Bps: Any
    collective: Callable[..., Any]
    """(kind, payload_B, ranks, stride, machine, latency_s, link_eff) to seconds."""

    @property
    def vector_flops(self) -> Any:
        return self.peak_vector[COMPUTE.index("bf16")] * VECTOR_SHARE

    def collective_s(
        self, kind: str, payload_B: Any, ranks: Any, stride: Any, latency_s: Any, link_eff: Any
    ) -> Any:
        """Seconds of one collective over `ranks` devices that lie `stride` apart."""
        return self.collective(kind, payload_B, ranks, stride, self, latency_s, link_eff)

    def hop_s(self, payload_B: Any, stride: Any) -> Any:
        """Seconds to hand `payload_B` to the device `stride` further on."""
        far = np.asarray(stride) >= self.devices_per_node
        near_s = self.inside.latency_s + payload_B / self.inside.bandwidth_Bps
        far_s = self.outside.latency_s + payload_B / self.outside.bandwidth_Bps
        return np.where(far, far_s, near_s)
