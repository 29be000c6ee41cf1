"""The figures of a system that timing reads, as bare numbers that broadcast.

`Machine` is what is left of a `System` once names, sources and alternatives are resolved: a few
peaks, a few bandwidths. Any of them may be an array, so that a sweep over machines, or the question
"what if bandwidth rose by 10 %", takes the same road as one prediction.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.optable import COMPUTE
from analyzer.system import Link, System
from analyzer.timing.collectives import CollectiveParams, Fabric, collective_time

TILE_ROWS = {"gpu": 128.0, "tpu": 128.0, "npu": 128.0, "soc": 32.0, "cpu": 16.0}
"""By kind of device."""


GEMM_RATE = {
    "fp32": "gemm_eff_32",
    "tf32": "gemm_eff_32",
    "bf16": "gemm_eff_16",
    "fp16": "gemm_eff_16",
    "fp8": "gemm_eff_8",
    "fp8-block": "gemm_eff_block",
    "int8": "gemm_eff_8",
    "fp6": "gemm_eff_8",
    "fp4": "gemm_eff_4",
    "int4": "gemm_eff_4",
}


NATIVE_RATES = tuple(GEMM_RATE[name] for name in COMPUTE)


def gemm_rate(system: System, dtype: str) -> str:
    """The efficiency of linear layers in `dtype`: where a device has no 8-bit integers at all, they
    are widened first, and the multiplication is as efficient as any in 16 bits."""
    if dtype == "int8" and "int8" not in system.device.peak_flops:
        return GEMM_RATE["fp16"]
    return GEMM_RATE[dtype]


class Machine(NamedTuple):
    """Peaks and links; FLOP/s are dense, bandwidths decimal bytes per second."""

    peak_vector: NDArray[np.float64]
    """Dense FLOP/s by index in COMPUTE, with what a format falls back to where it is missing."""
    memory_Bps: Any
    memory_B: Any
    units: Any
    """Independent processors (SMs, CUs, cores)."""
    vector_flops: Any
    """fp32 FLOP/s of what matrix units cannot do."""
    fabric: Fabric
    tile_rows: Any = 128.0
    """Rows of the largest tile that matrix units work on."""
    host_Bps: Any = np.nan
    """From the host's memory to one device; NaN where no link is known."""
    disk_Bps: Any = np.nan
    """From the disk of a node, which its devices share; NaN where none is known."""
    matrix_vector: bool = False
    """One row alone runs through kernels of its own, which need no rows to be efficient."""
    matrices: bool = True
    """It has matrix units; without, a thin product wastes no rows of a tile."""
    gemm_rates: tuple[str, ...] = NATIVE_RATES
    """By index in COMPUTE, the rate that linear layers reach."""
    ladder: Any = None
    """Other sources of operators' times (`sources.Ladder`), asked before the roofline."""

    def collective_s(
        self, kind: str, payload_B: Any, ranks: Any, stride: Any, latency_s: Any, link_eff: Any
    ) -> Any:
        """Seconds of one collective over `ranks` devices that lie `stride` apart.

        `latency_s` is that of two ranks; it grows with the rounds that a group needs.
        """
        base_s = latency_s * np.log2(np.maximum(ranks, 2.0))
        params = CollectiveParams(
            base_s=base_s,
            custom_base_s=base_s,
            link_eff=link_eff,
            multicast_base_s=latency_s,
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


@lru_cache(maxsize=256)
def machine(system: System) -> Machine:
    """What timing reads of a system."""
    device = system.device
    return Machine(
        peak_vector=np.array([_peak(system, dtype) for dtype in COMPUTE]),
        memory_Bps=device.memory_bandwidth_Bps,
        memory_B=device.memory_B,
        units=device.units,
        vector_flops=device.vector_peak,
        fabric=_fabric(system),
        tile_rows=TILE_ROWS[device.kind] if device.has_matrix_units else 1.0,
        gemm_rates=tuple(gemm_rate(system, dtype) for dtype in COMPUTE),
        host_Bps=system.host_link.h2d_Bps if system.host_link else np.nan,
        disk_Bps=system.disk.read_Bps if system.disk else np.nan,
        matrix_vector=device.kind == "cpu",
        matrices=device.has_matrix_units,
    )


def _peak(system: System, dtype: str) -> float:
    """NaN where the device has no such arithmetic at all: it must never look free."""
    try:
        return system.device.peak(dtype)
    except ConfigError:
        return float("nan")


def _fabric(system: System) -> Fabric:
    inside, outside = system.intra_node, system.inter_node
    values: dict[str, Any] = {
        "link_Bps": np.inf,
        "devices_per_node": float(system.devices_per_node),
    }
    if inside is not None:
        values |= {
            "link_Bps": inside.bandwidth_Bps,
            "link_latency_s": inside.latency_s,
            "topology": inside.topology,
            "through_host": inside.through_host,
            "multicast": inside.multicast,
            **_present(inside),
        }
    if outside is not None:
        values |= {"net_Bps": outside.bandwidth_Bps, "net_latency_s": outside.latency_s}
    return Fabric(**values)


def _present(link: Link) -> dict[str, float]:
    optional = {"pair_Bps": link.pair_Bps, "shared_Bps": link.shared_Bps}
    return {name: value for name, value in optional.items() if value is not None}
