"""Records that this suite's own profilers left in the data folders, one folder per machine."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from analyzer.records import Record
from calibration.intake import read_json_lines

SYSTEM_FILE = "measured-system.toml"
CHECK_FILE = "check.jsonl"
"""Generations that the fit must not see."""


class Profiled(NamedTuple):
    """One machine: its system file, what was profiled, and what to check a calibration on."""

    name: str
    system: Path
    records: tuple[Record, ...]
    check: tuple[Record, ...]


def load_profiled(folder: Path) -> list[Profiled]:
    """Every machine below a data folder, in the order of their names."""
    return [_machine(path) for path in sorted(folder.glob(f"*/{SYSTEM_FILE}"))]


def _machine(system: Path) -> Profiled:
    files = sorted(system.parent.glob("*.jsonl"))
    parts = {path.name: read_json_lines(path) for path in files}
    check = tuple(parts.pop(CHECK_FILE, ()))
    records = tuple(record for part in parts.values() for record in part)
    return Profiled(system.parent.name, system, records, check)
