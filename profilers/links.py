"""Profile `links`: what moves bytes, by size: memory, host and device, devices, disk.

Memory is read, copied and summed (triad) from cache-sized to far larger arrays; host and device
exchange pinned and pageable buffers in both directions; devices copy to each other; files are read
and written past the page cache (O_DIRECT) and through it. Bytes are those that the program asks
for; what a cache line fetched for writing adds is not counted, and definitions say so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analyzer.records import Scalar, Scenario
from profilers import estimates
from profilers.cases import Case, Failure, Machine, Outcome, Planned
from profilers.options import Options
from profilers.stopping import Rules

if TYPE_CHECKING:
    from profilers.workbench import Workbench

RULES = Rules(
    min_samples=10,
    min_time_s=0.05,
    max_noise=0.01,
    max_samples=400,
    cap_s=4.0,
    warmup_s=0.5,
    retake_s=1.5,
)
KIB, MIB = 1024, 1024**2
MEMORY_SIZES = {
    "tiny": (64 * KIB, 4 * MIB),
    "small": (32 * KIB, 256 * KIB, 2 * MIB, 16 * MIB, 64 * MIB, 256 * MIB),
    "large": (MIB, 16 * MIB, 64 * MIB, 256 * MIB, 1024 * MIB, 4096 * MIB),
}
COPY_SIZES = {
    "tiny": (4 * KIB, MIB),
    "small": (4 * KIB, 64 * KIB, MIB, 16 * MIB, 256 * MIB),
    "large": (
        4 * KIB,
        32 * KIB,
        256 * KIB,
        MIB,
        4 * MIB,
        16 * MIB,
        64 * MIB,
        256 * MIB,
        1024 * MIB,
    ),
}
DISK_SIZES = {
    "tiny": (MIB,),
    "small": (MIB, 16 * MIB, 64 * MIB),
    "large": (MIB, 16 * MIB, 256 * MIB),
}
ARRAYS_PER_CACHE = 4.0
FIRST = -1
"""Priority of what a system file cannot do without."""
MEMORY_OPS = ("memory_read", "memory_copy", "memory_triad")
SLOW_DISK_BPS = 200e6


def plan(options: Options, machine: Machine) -> list[Planned]:
    """Every transfer case for this machine."""
    size = estimates.size_of(options, machine)
    beyond_caches = int(ARRAYS_PER_CACHE * machine.cache_B) // MIB * MIB
    planned = [
        _planned({"op": op, "bytes": nbytes}, machine, machine.bandwidth_Bps, priority)
        for op in MEMORY_OPS
        for nbytes, priority in (
            (beyond_caches, FIRST),
            *((held, 0) for held in MEMORY_SIZES[size]),
        )
    ]
    if machine.device.startswith("cuda"):
        planned += _device_copies(size, machine)
    for op in ("disk_read", "disk_write"):
        for variant in ("direct", "cached"):
            for nbytes in DISK_SIZES[size]:
                case: dict[str, Scalar] = {"op": op, "bytes": nbytes, "variant": variant}
                last = nbytes == DISK_SIZES[size][-1] and variant == "direct"
                planned.append(_planned(case, machine, SLOW_DISK_BPS, 0 if last else 1))
    return planned


def _device_copies(size: str, machine: Machine) -> list[Planned]:
    planned = []
    for nbytes in COPY_SIZES[size]:
        for op in ("h2d", "d2h"):
            for variant in ("pinned", "pageable"):
                case: dict[str, Scalar] = {"op": op, "bytes": nbytes, "variant": variant}
                planned.append(_planned(case, machine, 10e9, 0))
        if machine.devices > 1:
            planned.append(_planned({"op": "d2d", "bytes": nbytes}, machine, 20e9, 0))
    return planned


def _planned(
    case: dict[str, Scalar], machine: Machine, bandwidth_Bps: float, priority: int
) -> Planned:
    nbytes = float(case["bytes"])
    call = machine.launch_s + 3 * nbytes / bandwidth_Bps
    return Planned(
        case=Case(profile="links", kind="link", scenario=Scenario(engine="torch"), case=case),
        estimate_s=estimates.measuring_s(call, RULES, machine),
        priority=priority,
        batch=f"{case['op']} {case.get('variant', '')}",
        memory_B=3 * nbytes,
    )


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Time the transfers of one batch in random turns."""
    from profilers.link_work import measure_links

    return measure_links(cases, bench, rules, seed)
