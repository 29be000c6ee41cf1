"""`--system auto`: which machine is this? What the machine says, and guesses where it is silent.

The GPUs that nvidia-smi lists come first, the processor else. Everything that nobody measured is
returned as an assumption in words, to be shown to the user. Commands and files are reached through
a `Probe`, so that any machine can be imitated.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from analyzer.errors import ConfigError
from analyzer.system import HostLink, Link, System
from analyzer.systems_catalog import load_system
from analyzer.units import GB, MIB, show

_TIMEOUT_S = 10.0
_FIELDS = ("name", "memory.total", "power.limit", "pcie.link.gen.max", "pcie.link.width.max")
_PCIE_LANE_BPS = {1: 0.25 * GB, 2: 0.5 * GB, 3: 0.985 * GB, 4: 1.969 * GB, 5: 3.938 * GB}
_NOTABLE = 0.03
"""Share by which a measured figure must differ from the catalog's to replace it."""


class Probe(NamedTuple):
    """How detection reaches the machine."""

    run: Callable[[Sequence[str]], str | None]
    """What a command prints; None where there is no such command or it fails."""
    read: Callable[[str], str | None]
    """The text of a file; None where there is none."""
    cores: Callable[[], int]
    """Logical processors that this process may use."""


class Detected(NamedTuple):
    """A recognised machine and what was taken for granted about it."""

    system: System
    assumptions: tuple[str, ...]


class _Card(NamedTuple):
    name: str
    memory_B: float | None
    power_W: float | None
    pcie_Bps: float | None


def detect_system(probe: Probe | None = None) -> Detected:
    """The system that this process runs on; ConfigError where it cannot be recognised."""
    probe = probe or this_machine()
    cards = _cards(probe)
    if cards:
        return _gpus(cards, probe)
    from analyzer.detect_cpu import detect_cpu

    return detect_cpu(probe)


def this_system(probe: Probe | None = None) -> Detected:
    """The recognised machine, with measured figures in place of guesses where there are any."""
    from analyzer.calibrated import measured_as

    found = detect_system(probe)
    measured = measured_as(found.system)
    if measured is None:
        return found
    said = f"{measured.name} as it was measured here ({measured.device.name}): {measured.note}"
    return Detected(measured, (said,))


def this_machine() -> Probe:
    """The real commands and files."""
    return Probe(_run, _read, _cores)


def changed(system: System, measured_by: str, **changes: object) -> System:
    """`system` with some figures measured anew; a mapping changes the fields of a part."""
    sources = dict(system.sources)
    for name, value in changes.items():
        part = getattr(system, name)
        if isinstance(value, dict):
            sources |= {f"{name}.{field}": f"measured: {measured_by}" for field in value}
            changes[name] = msgspec.structs.replace(part, **value)
        else:
            sources[name] = f"measured: {measured_by}"
    return msgspec.structs.replace(system, sources=sources, **changes)


def _run(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands, no shell
            list(command), capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cards(probe: Probe) -> list[_Card]:
    query = ["nvidia-smi", f"--query-gpu={','.join(_FIELDS)}", "--format=csv,noheader,nounits"]
    listing = probe.run(query) or ""
    rows = [[cell.strip() for cell in line.split(",")] for line in listing.splitlines()]
    return [_card(row) for row in rows if len(row) == len(_FIELDS)]


def _card(row: list[str]) -> _Card:
    memory_MiB, power_W, gen, lanes = (_number(cell) for cell in row[1:])
    lane_Bps = _PCIE_LANE_BPS.get(int(gen)) if gen else None
    pcie_Bps = lane_Bps * lanes if lane_Bps and lanes else None
    return _Card(row[0], memory_MiB * MIB if memory_MiB else None, power_W, pcie_Bps)


def _number(cell: str) -> float | None:
    """A cell's number; nvidia-smi writes [N/A] or [Not Supported] where it has none."""
    try:
        return float(cell)
    except ValueError:
        return None


def _gpus(cards: list[_Card], probe: Probe) -> Detected:
    names = sorted({card.name for card in cards})
    if len(names) > 1:
        raise ConfigError(
            f"this machine has GPUs of {len(names)} kinds ({', '.join(names)}); name one system"
        )
    known = _known(names[0])
    system = changed(known, "nvidia-smi", devices_per_node=len(cards), nodes=1)
    system = _as_the_card_says(system, cards[0])
    system = _host_memory(system, probe)
    return Detected(system, _gpu_assumptions(system, known, len(cards)))


def _known(name: str) -> System:
    try:
        return load_system(name)
    except ConfigError as error:
        raise ConfigError(
            f"nvidia-smi reports {name!r}, which is not in the catalog ({error}); "
            f"describe it in a file and give --system FILE.toml"
        ) from None


def _as_the_card_says(system: System, card: _Card) -> System:
    device = system.device
    if card.memory_B and abs(card.memory_B / device.memory_B - 1) > _NOTABLE:
        system = changed(system, "nvidia-smi", device={"memory_B": card.memory_B})
    if card.power_W and (device.tdp_W is None or abs(card.power_W / device.tdp_W - 1) > _NOTABLE):
        system = changed(system, "nvidia-smi", device={"tdp_W": card.power_W})
    return _pcie(system, card.pcie_Bps) if card.pcie_Bps else system


def _pcie(system: System, bandwidth_Bps: float) -> System:
    """The slot's own width and generation, where cards reach host or peers through it."""
    host, peers = system.host_link, system.intra_node
    if _is_slot(host) and host and abs(bandwidth_Bps / host.h2d_Bps - 1) > _NOTABLE:
        both = {"h2d_Bps": bandwidth_Bps, "d2h_Bps": bandwidth_Bps}
        system = changed(system, "nvidia-smi", host_link=both)
    if _is_slot(peers) and peers and abs(bandwidth_Bps / peers.bandwidth_Bps - 1) > _NOTABLE:
        system = changed(system, "nvidia-smi", intra_node={"bandwidth_Bps": bandwidth_Bps})
    return system


def _is_slot(link: Link | HostLink | None) -> bool:
    return link is not None and link.name.startswith("PCIe")


def _host_memory(system: System, probe: Probe) -> System:
    total_B = memory_total_B(probe)
    if total_B is None or system.host is None:
        return system
    return changed(system, "/proc/meminfo", host={"capacity_B": total_B})


def memory_total_B(probe: Probe) -> float | None:
    """Bytes of main memory, from /proc/meminfo."""
    for line in (probe.read("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return float(line.split()[1]) * 1024
    return None


def _gpu_assumptions(system: System, known: System, count: int) -> tuple[str, ...]:
    device = system.device
    lines = [
        f"{count} × {device.name}, as nvidia-smi lists them; all of them are free to use",
        f"peaks and memory bandwidth ({show(device.memory_bandwidth_Bps, 'bandwidth', 3)}) as in "
        f"the catalog's {known.name}, not measured",
    ]
    if count > 1 and system.intra_node:
        lines.append(f"the GPUs are joined by {system.intra_node.name}; this was not probed")
    if system.host:
        rate = show(system.host.bandwidth_Bps, "bandwidth", 3)
        lines.append(f"host memory moves {rate}; this was not measured")
    if system.disk:
        lines.append(f"the disk reads {show(system.disk.read_Bps, 'bandwidth', 3)}; not measured")
    return tuple(lines)
