"""What a machine is: devices, memories and links, in SI units, with the source of every figure.

Peaks are dense and per device; bandwidths are decimal, per device and per direction. Nothing here
says how close software comes to a peak: that is `Rates`. Files are read by `systems_catalog`.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeGuard

import msgspec

from analyzer.errors import ConfigError, nearest
from analyzer.systolic_array import SystolicArray

DTYPES = (
    "fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp6", "fp4", "int4", "fp8-block",
)  # fmt: skip
DEVICE_KINDS = ("gpu", "cpu", "tpu", "npu", "soc")
MARKETS = ("", "consumer", "workstation", "server", "embedded")
TOPOLOGIES = ("switch", "full", "ring", "torus2d", "torus3d")
SOURCE_KINDS = ("datasheet", "published", "measured", "derived", "assumed", "given")
"""vendor's own paper; somebody else's; taken on the machine; computed from other figures; guessed;
written in a user's file without a source."""

WIDER: dict[str, tuple[str, ...]] = {
    "int4": ("int8",),
    "fp4": ("fp6", "fp8"),
    "fp6": ("fp8",),
    "int8": ("fp16", "bf16"),
    "fp8": ("fp16", "bf16"),
    "fp8-block": ("fp8",),
    "fp16": ("tf32",),
    "bf16": ("tf32",),
    "tf32": ("fp32",),
    "fp32": ("fp64",),
}
"""For each format, those that hold every one of its values: what it may run as without loss."""


_PACKED = 2.1
"""Vector units do two 16-bit operations in place of one in fp32; data sheets round."""


class _Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a system: every number in them is finite and above zero."""

    def __post_init__(self) -> None:
        for field in self.__struct_fields__:
            _require_positive(field, getattr(self, field))


class Execution(NamedTuple):
    """The format that arithmetic asked for in some format really runs in, and how fast at best."""

    dtype: str
    flops: float
    """Dense FLOP/s."""


class Device(_Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One accelerator or processor as software sees it."""

    name: str
    vendor: str = ""
    kind: str = "gpu"
    market: str = ""
    """One of MARKETS: whom it is sold to, which says what hosts it sits in; "" where unknown."""
    family: str = ""
    """Architecture ("ampere", "cdna3"): uncalibrated devices lean on calibrated ones of theirs."""
    year: int | None = None
    peak_flops: dict[str, float]
    """Dense FLOP/s per format that it computes natively."""
    sparse_peak_flops: dict[str, float] = {}
    """FLOP/s with structured sparsity: what data sheets shout; never used for predictions."""
    accumulate: str = ""
    """What the 16-bit peaks accumulate in, where cards have two rates."""
    vector_flops: float | None = None
    """fp32 FLOP/s outside the matrix units, where that is not the fp32 peak."""
    memory_B: float
    """What the driver offers to programs, not what the box says."""
    memory_bandwidth_Bps: float
    units: float = 1.0
    """Independent processors, counted in `unit`; 1: too little parallel work never shows."""
    unit: str = ""
    l2_B: float | None = None
    """The largest cache that all units share."""
    clock_Hz: float | None = None
    systolic: SystolicArray | None = None
    """Its matrix units, where they are systolic arrays: what a cycle-level simulation needs."""
    tdp_W: float | None = None
    idle_W: float | None = None
    price_usd_per_hour: float | None = None
    """A public list price of one device with its share of the host; see its source for the date."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_known("kind", self.kind, DEVICE_KINDS)
        _require_known("market", self.market, MARKETS)
        for field in ("peak_flops", "sparse_peak_flops"):
            for dtype in getattr(self, field):
                _require_known(field, dtype, DTYPES)
        if not self.peak_flops:
            raise ConfigError("peak_flops is empty; give at least one format, e.g. bf16")

    def execution(self, dtype: str) -> Execution:
        """What arithmetic in `dtype` runs as: the fastest format that holds all its values."""
        _require_known("dtype", dtype, DTYPES)
        legal = [name for name in wider(dtype) if name in self.peak_flops]
        if not legal:
            has = ", ".join(self.peak_flops)
            raise ConfigError(f"{self.name} cannot compute in {dtype} or wider (it has {has})")
        best = max(legal, key=self.peak_flops.__getitem__)
        return Execution(best, self.peak_flops[best])

    def peak(self, dtype: str) -> float:
        """Dense FLOP/s that arithmetic in `dtype` can reach at best."""
        return self.execution(dtype).flops

    @property
    def has_matrix_units(self) -> bool:
        """Whether 16-bit products run faster than vector units could: more than twice fp32. (Cards
        with two rates have them, though the one that accumulates in fp32 does not show it.)"""
        narrow = max(self.peak_flops.get(name, 0.0) for name in ("bf16", "fp16"))
        vector = self.peak_flops.get("fp32")
        if self.kind not in ("gpu", "soc") or self.accumulate or vector is None:
            return True
        return narrow > _PACKED * vector

    @property
    def vector_peak(self) -> float:
        """fp32 FLOP/s of the vector units (the fp32 peak where nothing else is known)."""
        return self.vector_flops or self.peak("fp32")


class Link(_Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What joins devices, seen from one of them."""

    name: str
    bandwidth_Bps: float
    """Per direction, all of a device's ports together, while its neighbours send as well."""
    latency_s: float
    """One hop, software not counted."""
    topology: str = "switch"
    pair_Bps: float | None = None
    """Between two given devices, where a device's ports are dealt out to its peers ("full")."""
    alone_Bps: float | None = None
    """What one device gets while the others of its node are quiet, where they share an adapter."""
    shared_Bps: float | None = None
    """What all devices of a node get together, where a root complex or the host is in between."""
    through_host: bool = False
    """No peer-to-peer access: every transfer goes to host memory and back."""
    multicast: bool = False
    """The switch sums and multiplies (NVLink SHARP)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_known("topology", self.topology, TOPOLOGIES)


class HostLink(_Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Between one device and its host's memory."""

    name: str
    h2d_Bps: float
    d2h_Bps: float
    latency_s: float


class HostMemory(_Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory of a node's processors, shared by its devices."""

    capacity_B: float
    bandwidth_Bps: float


class Disk(_Figures, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The storage of a node, shared by its devices."""

    name: str = ""
    capacity_B: float
    read_Bps: float
    write_Bps: float


class System(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Nodes of like devices. How many of them a scenario uses is its plan's business."""

    name: str
    aliases: tuple[str, ...] = ()
    note: str = ""
    device: Device
    devices_per_node: int = 1
    """Devices that the intra-node link joins; an NVLink or ICI domain counts as one node."""
    nodes: int | None = None
    """How many nodes there are; None: as many as a plan asks for, where a link joins them."""
    intra_node: Link | None = None
    inter_node: Link | None = None
    host_link: HostLink | None = None
    host: HostMemory | None = None
    disk: Disk | None = None
    sources: dict[str, str] = {}
    """Dotted path of a figure, or of the part that holds it, to "kind: citation"."""

    def __post_init__(self) -> None:
        for field in ("devices_per_node", "nodes"):
            _require_positive(field, getattr(self, field))
        if self.devices_per_node > 1 and self.intra_node is None:
            raise ConfigError(
                f"devices_per_node is {self.devices_per_node} but nothing joins them; "
                f"give [intra_node]"
            )
        if (self.nodes or 1) > 1 and self.inter_node is None:
            raise ConfigError(f"nodes is {self.nodes} but nothing joins them; give [inter_node]")
        for path, text in self.sources.items():
            kind = text.partition(":")[0]
            _require_known(f"sources: {path!r}: source", kind, SOURCE_KINDS)

    def __hash__(self) -> int:
        return hash((self.name, self.device.name, self.devices_per_node, self.nodes))

    @property
    def max_devices(self) -> float:
        """Devices that a plan may use; infinite where nodes can be added."""
        nodes = self.nodes or (math.inf if self.inter_node else 1)
        return self.devices_per_node * nodes

    def nodes_for(self, devices: int) -> int:
        """Nodes that `devices` devices fill; a clear error where the system has not so many."""
        if devices < 1:
            raise ConfigError(f"a plan needs at least 1 device, not {devices}")
        if devices > self.max_devices:
            most = f"{self.max_devices:.0f} device" + ("s" if self.max_devices != 1 else "")
            remedy = "use fewer" if self.nodes else "use fewer, or a system with an inter-node link"
            raise ConfigError(f"{self.name} has {most}, the plan needs {devices}; {remedy}")
        return math.ceil(devices / self.devices_per_node)

    def with_devices(self, devices: int) -> System:
        """This system cut to the nodes that `devices` devices fill."""
        return msgspec.structs.replace(self, nodes=self.nodes_for(devices))

    def link_for(self, devices: int) -> Link | None:
        """The slowest link in a group of `devices` neighbours; None for one device."""
        if devices <= 1:
            return None
        return self.intra_node if self.nodes_for(devices) == 1 else self.inter_node

    def source_of(self, path: str) -> str:
        """Where the figure at a dotted path comes from; '' where nothing says."""
        while path not in self.sources:
            path, dot, _ = path.rpartition(".")
            if not dot:
                return ""
        return self.sources[path]


def wider(dtype: str) -> list[str]:
    """`dtype` and all formats that hold every one of its values, narrowest first."""
    found = [dtype]
    for name in found:
        found.extend(more for more in WIDER.get(name, ()) if more not in found)
    return found


def figures(part: msgspec.Struct, prefix: str = "") -> dict[str, float]:
    """Every number of a system by its dotted path, defaults left out: what must have a source."""
    found: dict[str, float] = {}
    for field in msgspec.structs.fields(part):
        value = getattr(part, field.name)
        if field.required or value != field.default:
            found |= _figures_of(f"{prefix}{field.name}", value)
    return found


def _figures_of(path: str, value: object) -> dict[str, float]:
    if isinstance(value, msgspec.Struct):
        return figures(value, f"{path}.")
    if isinstance(value, dict):
        return {f"{path}.{key}": entry for key, entry in value.items() if _is_number(entry)}
    return {path: value} if _is_number(value) else {}


def _require_positive(field: str, value: object) -> None:
    if isinstance(value, dict):
        for key, entry in value.items():
            _require_positive(f"{field}.{key}", entry)
    elif _is_number(value) and not (math.isfinite(value) and value > 0):
        raise ConfigError(f"{field} is {value:g}; it must be above 0")


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, float | int) and not isinstance(value, bool)


def _require_known(field: str, name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ConfigError(
            f"{field} {name!r} is unknown{nearest(name, known)}; use {', '.join(known)}"
        )
