"""Memories, links and number formats by name, and a machine with one of them in place of its own.

Figures are those of the standards or of the vendors' data sheets, named beside each. A machine that
is changed this way was never measured: its software is taken to reach the same shares of the new
peaks as of the old ones.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzer.errors import ConfigError
from analyzer.system import System


class Technology(NamedTuple):
    """One part that a machine may have; figures that do not apply are 0 or empty."""

    title: str
    kind: str
    """memory, link or format."""
    source: str
    stack_Bps: float = 0.0
    stack_B: float = 0.0
    link_Bps: float = 0.0
    """Per device and direction."""
    weights: str = ""


def _memory(title: str, gbps: float, gb: float, source: str) -> Technology:
    return Technology(title, "memory", source, stack_Bps=gbps * 1e9, stack_B=gb * 1e9)


def _link(title: str, gbps: float, source: str) -> Technology:
    return Technology(title, "link", source, link_Bps=gbps * 1e9)


def _format(title: str, name: str, source: str) -> Technology:
    return Technology(title, "format", source, weights=name)


TECHNOLOGIES: dict[str, Technology] = {
    "hbm2": _memory(
        "HBM2", 256, 8, "JEDEC JESD235A, January 2016: 2 Gb/s × 1,024, 8 layers of 8 Gb"
    ),
    "hbm2e": _memory(
        "HBM2E", 460.8, 16, "SK hynix, HBM2E, 2020: 3.6 Gb/s × 1,024, 8 layers of 16 Gb"
    ),
    "hbm3": _memory(
        "HBM3", 819.2, 24, "JEDEC JESD238, January 2022: 6.4 Gb/s × 1,024; SK hynix, 12 layers"
    ),
    "hbm3e": _memory(
        "HBM3E", 1228.8, 36, "SK hynix, 26 September 2024: 9.6 Gb/s × 1,024, 12 layers of 24 Gb"
    ),
    "hbm4": _memory(
        "HBM4", 2048, 36, "JEDEC JESD270-4, April 2025: 8 Gb/s × 2,048; 12 layers of 24 Gb"
    ),
    "pcie4": _link("PCIe 4.0 ×16", 31.5, "PCI-SIG, PCIe 4.0: 16 GT/s × 16 lanes, 128b/130b"),
    "pcie5": _link("PCIe 5.0 ×16", 63, "PCI-SIG, PCIe 5.0: 32 GT/s × 16 lanes, 128b/130b"),
    "nvlink3": _link("NVLink 3", 300, "NVIDIA A100 data sheet: 600 GB/s both ways together"),
    "nvlink4": _link("NVLink 4", 450, "NVIDIA H100 data sheet: 900 GB/s both ways together"),
    "nvlink5": _link("NVLink 5", 900, "NVIDIA DGX B200 data sheet: 1.8 TB/s both ways together"),
    "bf16": _format("bf16 weights", "bf16", "16 bits"),
    "fp8": _format("fp8 weights", "fp8", "8 bits"),
    "int4": _format("int4 weights (AWQ)", "int4-awq-g128", "4 bits, groups of 128"),
    "nvfp4": _format("NVFP4 weights", "nvfp4", "4 bits, groups of 16"),
}


def changed(system: System, name: str, stacks: int) -> System:
    """The system with one part replaced; as it is, where the part is a number format."""
    part = TECHNOLOGIES[name]
    called = f"{system.name} with {part.title}"
    if part.kind == "memory":
        device = msgspec.structs.replace(
            system.device,
            memory_B=stacks * part.stack_B,
            memory_bandwidth_Bps=stacks * part.stack_Bps,
        )
        return msgspec.structs.replace(system, name=called, device=device)
    if part.kind == "link":
        if system.intra_node is None:
            raise ConfigError(
                f"{system.name} has no link between devices that {part.title} replaces"
            )
        link = msgspec.structs.replace(
            system.intra_node, name=part.title, bandwidth_Bps=part.link_Bps,
            pair_Bps=None, alone_Bps=None, shared_Bps=None,
        )  # fmt: skip
        return msgspec.structs.replace(system, name=called, intra_node=link)
    return system
