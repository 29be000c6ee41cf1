"""Machines that nobody measured: what their relatives say, the nearest ones loudest.

A rate of an engine is believed to differ between two devices by as much as the devices differ in
bandwidth, arithmetic, kind of memory, architecture and maker. Each relative that ran the engine
speaks with a weight that falls with that distance and with its own uncertainty; the generic prior
speaks as a distant relative. Where hardly anybody ran the engine, its other generations speak, and
of a device's own properties other engines as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.engines import ENGINES, engine
from analyzer.priors import GENERIC, LINEAR, Prior
from analyzer.system import Device
from analyzer.systems_catalog import load_system
from analyzer.timing.rates import PARAMETERS

HARDWARE = frozenset(
    {
        "gemm_eff_32",
        "gemm_eff_16",
        "gemm_eff_8",
        "gemm_eff_4",
        "mem_eff",
        "kv_eff",
        "vector_eff",
        "collective_s",
        "link_eff",
    }
)
"""Rates that are the device's as much as the engine's."""

SPREAD = 0.5
"""Widths of the generic prior by which a rate differs over one unit of distance."""
SELF = 0.15
"""Distance between two devices that are alike in everything that is looked at."""
GENERIC_SHARE = 0.4
"""What the generic prior weighs, beside what its width says."""
LEAST_SHARE = 0.05
"""Relatives whose own data said less about a rate than this are not asked."""
LEAST_SYSTEMS = 2
"""With so many systems that ran the very engine, no other engine is asked."""
OTHER_GENERATION = 1.5
OTHER_ENGINE = 2.0
"""Distance that a different engine adds."""

VENDOR, KIND, ARCHITECTURE, MEMORY = 0.7, 1.5, 0.25, 1.0
STACKED_Bps = 1.2e12
"""Bandwidth above which memory is stacked, and harder to use to the full."""


WIDE = ("bf16", "fp16", "tf32", "fp32")


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


def distance(one: Device, other: Device) -> float:
    """How unlike two devices are; 1 is about a factor of e in bandwidth."""
    apart = abs(np.log(one.memory_bandwidth_Bps / other.memory_bandwidth_Bps))
    apart += 0.5 * abs(np.log(_arithmetic(one) / _arithmetic(other)))
    apart += VENDOR * (one.vendor.lower() != other.vendor.lower())
    apart += KIND * (one.kind != other.kind)
    apart += ARCHITECTURE * (one.family != other.family)
    apart += MEMORY * (_stacked(one) != _stacked(other))
    return float(apart)


def _arithmetic(device: Device) -> float:
    wide = [flops for dtype, flops in device.peak_flops.items() if dtype in WIDE]
    return max(wide or device.peak_flops.values())


def _stacked(device: Device) -> bool:
    return device.memory_bandwidth_Bps > STACKED_Bps


def leaning(device: Device, engine_class: str, relatives: Iterable[Relative]) -> list[Prior]:
    """What is believed of every rate of an engine on a device, from relatives alone."""
    known = [(one, SELF + distance(device, one.device)) for one in relatives]
    few = len({one.system for one, _ in known if one.engine == engine_class}) < LEAST_SYSTEMS
    asked = known if few else [pair for pair in known if pair[0].engine == engine_class]
    return [_leaning(name, engine_class, asked) for name in GENERIC]


def nearest(device: Device, engine_class: str, relatives: Iterable[Relative]) -> list[str]:
    """Systems whose word counts most, nearest first, those with the very engine before others."""
    known = list(relatives)
    same = [one for one in known if one.engine == engine_class]
    order = sorted(same or known, key=lambda one: (distance(device, one.device), one.system))
    return list(dict.fromkeys(one.system for one in order))


def _leaning(name: str, engine_class: str, relatives: list[tuple[Relative, float]]) -> Prior:
    generic = GENERIC[name]
    points, weights = [generic.centre], [GENERIC_SHARE / generic.width**2]
    closest = generic.width
    for one, apart in relatives:
        belief, away = one.beliefs.get(name), _software(name, engine_class, one.engine)
        if belief is None or belief.data_share < LEAST_SHARE or away is None:
            continue
        between = SPREAD * generic.width * (apart + away)
        closest = min(closest, between)
        points.append(belief.point)
        weights.append(1.0 / (between**2 + belief.deviation**2))
    centre = float(np.average(points, weights=weights))
    # however many relatives: the device's own rate still differs from theirs
    own = closest**2 if closest < generic.width else 0.0
    width = min(float(np.sqrt(1.0 / sum(weights) + own)), generic.width)
    return Prior(name=name, centre=float(np.clip(centre, *_limits(name))), width=width)


def _software(name: str, wanted: str, ran: str) -> float | None:
    """Distance that the engines add; None where one says nothing of the other."""
    if ran == wanted:
        return 0.0
    if engine(ran).family == engine(wanted).family:
        return OTHER_GENERATION
    return OTHER_ENGINE if name in HARDWARE or wanted not in ENGINES else None


def _limits(name: str) -> tuple[float, float]:
    entry = PARAMETERS[name]
    if name in LINEAR:
        return entry.low, entry.high
    return float(np.log(max(entry.low, entry.high * 1e-9))), float(np.log(entry.high))
