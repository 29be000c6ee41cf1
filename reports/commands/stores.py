"""Stores of measurements that commands share by name, and the system that they were taken on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from analyzer.errors import ConfigError
from analyzer.records import Record
from analyzer.system import System
from analyzer.systems_catalog import load_system

DEFAULT_STORE = "plumbline-records"
"""Where `profile` writes and `calibrate --system auto` reads unless told otherwise."""
CHECK_STORE = "plumbline-check"
"""Where `profile check` writes."""


class Chosen(NamedTuple):
    """The system to calibrate, how to name it so that it loads, and what was decided."""

    system: System
    reference: str
    remarks: tuple[str, ...] = ()


def choose_system(name: str, measured: Sequence[Record], folder: Path) -> Chosen:
    """The system of that name; for `auto` this machine, from its data sheet or from what it did."""
    if name != "auto":
        return Chosen(load_system(name), name)
    from analyzer.detect import detect_system

    found = detect_system()
    if _in_catalog(found.system.name) or not measured:
        said = (f"recognised {found.system.name}", *found.assumptions)
        return Chosen(found.system, "auto", tuple(f"assumed: {line}" for line in said))
    return _measured_system(found.system, measured, folder)


def _in_catalog(name: str) -> bool:
    try:
        load_system(name)
    except ConfigError:
        return False
    return True


def _measured_system(recognised: System, measured: Sequence[Record], folder: Path) -> Chosen:
    """A system file from the ceilings that this machine reached, where no data sheet is known."""
    from profilers.ceilings import system_document, to_toml
    from reports.files import replacing

    _refuse_foreign(recognised, measured[0])
    document = system_document(recognised.name, measured)
    document["note"] = "No data sheet is known: its figures are the best that was reached here."
    document["device"] |= {
        "units": recognised.device.units,
        "unit": recognised.device.unit or "core",
        "memory_B": recognised.device.memory_B,
    }
    document["nodes"] = 1
    peaks = document["device"]["peak_flops"]
    if "fp32" not in peaks:  # vector units need one, whatever formats were asked for
        peaks["fp32"] = recognised.device.peak("fp32")
        document["sources"]["device.peak_flops.fp32"] = "assumed: by clock and instruction set"
    path = folder / f"{recognised.name}.toml"
    folder.mkdir(parents=True, exist_ok=True)
    with replacing(path) as stream:
        stream.write(to_toml(document))
    said = f"no data sheet of {recognised.name} is known: the ceilings reached here are in {path}"
    return Chosen(load_system(path), str(path), (said,))


def _refuse_foreign(recognised: System, record: Record) -> None:
    """Records of another machine say nothing about this one."""
    taken_B = float(record.environment.get("device_memory_B") or 0.0)
    if abs(taken_B / recognised.device.memory_B - 1.0) > _ALIKE:
        raise ConfigError(
            f"the records were taken on {record.scenario.hardware or 'another machine'} with "
            f"{taken_B / 1e9:.1f} GB, this is {recognised.device.name} with "
            f"{recognised.device.memory_B / 1e9:.1f} GB; name their system with --system"
        )


_ALIKE = 0.05
"""Share by which the memory of one machine may differ between two looks at it."""
