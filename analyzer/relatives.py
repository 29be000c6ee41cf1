"""What each measured (system, engine) learnt of its rates by itself, as a file beside the
calibrations. `kinship.py` works out what that says of machines that nobody measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from analyzer.system import Device
from analyzer.systems_catalog import load_system

HARDWARE = frozenset(
    {
        "gemm_eff_32",
        "gemm_eff_16",
        "gemm_eff_8",
        "gemm_eff_4",
        "gemm_eff_block",
        "mem_eff",
        "kv_eff",
        "vector_eff",
        "collective_s",
        "link_eff",
    }
)
"""Rates that are the device's as much as the engine's."""


class Belief(NamedTuple):
    """What one calibration learnt about one rate, in the fitting scale."""

    point: float
    deviation: float
    data_share: float


class Relative(NamedTuple):
    """A device on which an engine was measured."""

    system: str
    device: Device
    engine: str
    beliefs: Mapping[str, Belief]


FILE = "relatives.json"
"""Beside the calibrations: what each fit learnt by itself, without its relatives' word."""

Key = tuple[str, str]


def write_relatives(learnt: Mapping[Key, Mapping[str, Belief]], folder: Path) -> Path:
    """Keep what every (system, engine) learnt."""
    rows = [
        {
            "system": system,
            "engine": ran,
            "rates": {name: [float(f"{x:.5g}") for x in belief] for name, belief in known.items()},
        }
        for (system, ran), known in sorted(learnt.items())
    ]
    path, unfinished = folder / FILE, folder / f".{FILE}.part"
    unfinished.write_text("[\n" + ",\n".join(map(_line, rows)) + "\n]\n", encoding="utf-8")
    unfinished.replace(path)
    return path


def _line(row: Mapping[str, object]) -> str:
    return msgspec.json.encode(row).decode()


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    system: str
    engine: str
    rates: dict[str, tuple[float, float, float]]


def read_relatives(folder: Path) -> tuple[Relative, ...]:
    """All machines on which anything was measured; none where the folder does not say."""
    path = folder / FILE
    return _read(path, path.stat().st_mtime_ns) if path.is_file() else ()


@lru_cache(maxsize=4)
def _read(path: Path, _changed: int) -> tuple[Relative, ...]:
    rows = msgspec.json.decode(path.read_bytes(), type=list[_Row])
    return tuple(
        relative((row.system, row.engine), {n: Belief(*x) for n, x in row.rates.items()})
        for row in rows
    )


def relative(key: Key, beliefs: Mapping[str, Belief]) -> Relative:
    """One (system, engine) of the catalog with what it learnt."""
    return Relative(key[0], load_system(key[0]).device, key[1], beliefs)
