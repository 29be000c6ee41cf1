"""Recognising a machine that has only its processor: cores and instruction sets, times a clock.

A processor of the catalog is scaled to the cores that this process may use. Any other is built from
what /proc/cpuinfo says: operations per clock by instruction set, an assumed memory bandwidth per
core. `calibrate` replaces the guesses by measurements.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from analyzer.detect import Detected, Probe, memory_total_B
from analyzer.errors import ConfigError
from analyzer.system import Device, System
from analyzer.systems_catalog import load_system
from analyzer.units import GB, KIB, show

CORE_BPS = 30 * GB
"""What one core can draw from memory, about; many cores meet the channels' limit first."""
SERVER_BPS = 204.8 * GB
"""Eight channels of DDR4-3200: a common server."""
DESKTOP_BPS = 89.6 * GB
"""Two channels of DDR5-5600."""
TURBO = 1.5
"""All cores busy run at up to this multiple of the nominal clock, on common servers."""
_CLOCK_HZ = 2.5e9
_SERVER_NAMES = re.compile(r"xeon|epyc|graviton|neoverse|ampere|altra", re.IGNORECASE)

_WIDTHS = (
    ("avx512f", 64.0),
    ("fma", 32.0),
    ("avx", 16.0),
    ("asimd", 16.0),
    ("sse2", 8.0),
)
"""fp32 operations per clock and core: two multiply-add units as wide as the registers."""
_MATRIX = (
    ("amx_bf16", "bf16", 2048.0),
    ("amx_fp16", "fp16", 2048.0),
    ("amx_int8", "int8", 4096.0),
)
"""Operations per clock and core of tile units."""
_VECTOR = (
    ("avx512_bf16", "bf16", 2.0),
    ("avx512_fp16", "fp16", 2.0),
    ("avx512_vnni", "int8", 4.0),
    ("avx_vnni", "int8", 4.0),
    ("bf16", "bf16", 4.0),
    ("asimdhp", "fp16", 2.0),
    ("i8mm", "int8", 8.0),
    ("asimddp", "int8", 4.0),
)
"""Operations of short formats as a multiple of the fp32 ones."""


class _Cpu(NamedTuple):
    model: str
    flags: frozenset[str]
    cores: int
    clock_Hz: float
    clock_from: str
    zen4: bool


def detect_cpu(probe: Probe) -> Detected:
    """The processor as one device; ConfigError where not even that can be recognised."""
    text = probe.read("/proc/cpuinfo")
    if text is None:
        return _apple(probe)
    memory_B = memory_total_B(probe)
    if memory_B is None:
        raise ConfigError("/proc/meminfo does not say how much memory there is; name a system")
    cpu = _cpu(text, probe)
    known = _known(cpu.model)
    if known is None:
        return _from_flags(cpu, memory_B, probe)
    return _scaled(known, cpu, memory_B)


def _cpu(text: str, probe: Probe) -> _Cpu:
    fields = [
        (key.strip(), value.strip())
        for key, _, value in (line.partition(":") for line in text.splitlines())
    ]
    first = dict(reversed(fields))
    flags = frozenset((first.get("flags") or first.get("Features") or "").split())
    cores = min(_physical_cores(fields) or probe.cores(), probe.cores())
    clock_Hz, clock_from = _clock(first, probe)
    zen4 = first.get("vendor_id") == "AuthenticAMD" and first.get("cpu family") == "25"
    model = first.get("model name") or first.get("Model") or "unknown processor"
    return _Cpu(model, flags, cores, clock_Hz, clock_from, zen4)


def _physical_cores(fields: list[tuple[str, str]]) -> int:
    """Cores, threads that share one counted once; 0 where cpuinfo does not tell."""
    found: set[tuple[str, str]] = set()
    socket = ""
    for key, value in fields:
        if key == "physical id":
            socket = value
        elif key == "core id":
            found.add((socket, value))
    return len(found)


def _clock(first: dict[str, str], probe: Probe) -> tuple[float, str]:
    fastest_kHz = probe.read("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")
    if fastest_kHz and fastest_kHz.strip().isdigit():
        return float(fastest_kHz) * 1e3, "the highest that the kernel allows"
    named = re.search(r"@\s*([\d.]+)\s*GHz", first.get("model name", ""))
    if named:
        return float(named.group(1)) * 1e9 * TURBO, f"{TURBO:g} times the one in its name"
    try:
        return float(first["cpu MHz"]) * 1e6 * TURBO, f"{TURBO:g} times the one in /proc/cpuinfo"
    except (KeyError, ValueError):
        return _CLOCK_HZ, "a guess: the machine does not say"


def _known(model: str) -> System | None:
    try:
        return load_system(model)
    except ConfigError:
        return None


def _scaled(known: System, cpu: _Cpu, memory_B: float) -> Detected:
    """A catalog processor, cut or multiplied to the cores that there are."""
    whole = known.device
    share = cpu.cores / whole.units
    most_Bps = whole.memory_bandwidth_Bps * max(share, 1.0)
    bandwidth_Bps = min(most_Bps, cpu.cores * CORE_BPS) if share < 1.0 else most_Bps
    device = msgspec.structs.replace(
        whole,
        units=float(cpu.cores),
        peak_flops={dtype: peak * share for dtype, peak in whole.peak_flops.items()},
        memory_B=memory_B,
        memory_bandwidth_Bps=bandwidth_Bps,
        tdp_W=whole.tdp_W * share if whole.tdp_W else None,
        price_usd_per_hour=None,
    )
    return _detected(
        known.name,
        device,
        f"{cpu.cores} cores of the catalog's {known.name} ({whole.units:.0f}), peaks in proportion",
        f"memory moves {show(bandwidth_Bps, 'bandwidth', 3)}; this was not measured",
    )


def _from_flags(cpu: _Cpu, memory_B: float, probe: Probe) -> Detected:
    width_flag, width = next(
        ((flag, ops) for flag, ops in _WIDTHS if flag in cpu.flags), ("scalar units", 2.0)
    )
    if cpu.zen4 and width_flag == "avx512f":
        width = 32.0  # family 25 runs 512-bit operations in two halves, dot products in one
    per_clock = _per_clock(cpu.flags, width, 2.0 if cpu.zen4 else 1.0)
    most_Bps = SERVER_BPS if _SERVER_NAMES.search(cpu.model) else DESKTOP_BPS
    bandwidth_Bps = min(cpu.cores * CORE_BPS, most_Bps)
    device = Device(
        name=f"{cpu.model} ({cpu.cores} cores)",
        vendor="",
        kind="cpu",
        family="cpu",
        peak_flops={dtype: ops * cpu.clock_Hz * cpu.cores for dtype, ops in per_clock.items()},
        memory_B=memory_B,
        memory_bandwidth_Bps=bandwidth_Bps,
        units=float(cpu.cores),
        unit="core",
        l2_B=_cache_B(probe),
        clock_Hz=cpu.clock_Hz,
    )
    rates = ", ".join(f"{dtype} {ops:g}" for dtype, ops in per_clock.items())
    return _detected(
        f"CPU {cpu.model}",
        device,
        f"a clock of {show(cpu.clock_Hz, 'frequency', 3)}, {cpu.clock_from}",
        f"operations per clock and core from {width_flag}: {rates}",
        f"memory moves {show(bandwidth_Bps, 'bandwidth', 3)} "
        f"({show(CORE_BPS, 'bandwidth')} per core); this was not measured",
        "no idle power, price or disk is known",
    )


def _per_clock(flags: frozenset[str], width: float, dot: float) -> dict[str, float]:
    found = {"fp32": width}
    for flag, dtype, factor in _VECTOR:
        if flag in flags:
            found[dtype] = max(found.get(dtype, 0.0), width * factor * dot)
    for flag, dtype, ops in _MATRIX:
        if flag in flags:
            found[dtype] = ops
    return found


def _cache_B(probe: Probe) -> float | None:
    text = (probe.read("/sys/devices/system/cpu/cpu0/cache/index3/size") or "").strip()
    match = re.fullmatch(r"(\d+)K", text)
    return float(match.group(1)) * KIB if match else None


def _apple(probe: Probe) -> Detected:
    """macOS has no /proc; its graphics share the memory and are what models run on."""
    chip = (probe.run(["sysctl", "-n", "machdep.cpu.brand_string"]) or "").strip()
    if not chip:
        raise ConfigError(
            "this machine cannot be recognised (no nvidia-smi, no /proc/cpuinfo); name a system"
        )
    known = load_system(chip)
    memory = (probe.run(["sysctl", "-n", "hw.memsize"]) or "").strip()
    memory_B = float(memory) if memory.isdigit() else known.device.memory_B
    device = msgspec.structs.replace(known.device, memory_B=memory_B)
    return _detected(known.name, device, f"the largest graphics of an {chip}: {known.device.name}")


def _detected(name: str, device: Device, *assumptions: str) -> Detected:
    system = System(
        name=name,
        device=device,
        nodes=1,
        note="Recognised by --system auto; most figures are assumed.",
        sources={
            "device": f"assumed: {assumptions[0]}",
            "device.memory_B": "measured: what the operating system says",
            "nodes": "assumed: this machine alone",
        },
    )
    return Detected(system, (f"one device: {device.name}", *assumptions))
