"""Calibrations as files: the rates of one (system, engine), how sure they are, and where they hold.

`calibration/` writes them, this module reads them; `catalog/rates/<system>__<engine>.toml` are the
shipped ones. A scenario outside of a calibration's hull is answered all the same, and says so.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import msgspec

from analyzer.engines import ENGINES, engine
from analyzer.errors import ConfigError
from analyzer.kinship import kin_of, nearest
from analyzer.priors import Prior
from analyzer.records_arrival import FIXED_BATCHES
from analyzer.strict import decode_toml
from analyzer.system import Device, System
from analyzer.systems_catalog import load_system
from analyzer.timing.rates import Rates

FOLDER = Path(__file__).parent / "catalog" / "rates"
OWN_FOLDER = Path("plumbline-rates")
"""Where one's own calibrations lie unless PLUMBLINE_RATES names a folder: below where one works."""
POOLED = "any"
"""System name of the calibration that stands for an engine class on systems of its own data."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a calibration's parts."""


class FittedRate(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rate with its 90 % interval."""

    value: float
    low: float
    high: float
    data_share: float
    """1: the measurements alone decided; 0: the prior did."""
    identified: bool
    at_bound: bool = False


class Band(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far measurements lay from held-out predictions: measured/predicted, at `level`."""

    metric: str
    level: float
    low: float
    high: float
    groups: int
    """Held-out models behind it (systems with engines, where neither was measured); the level is
    what their number supports."""
    coverage: float
    """Share of held-out rows inside, when each model's band came from the others."""
    seen: bool = False
    """True: of models and ranges that the fit has seen; False: of models that it has not."""


class Score(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Geomean errors exp(mean |ln(predicted/measured)|) − 1 of one metric."""

    metric: str
    rows: int
    models: int
    in_sample: float
    held_out: float | None = None
    """Each model predicted by a fit that never saw it; None with fewer than two models."""
    bias: float | None = None
    """exp(mean ln(predicted/measured)) − 1 of the held-out predictions."""


class Hull(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the measurements spanned; beyond it a prediction is an extrapolation."""

    batch: tuple[float, float]
    input_tokens: tuple[float, float]
    output_tokens: tuple[float, float]
    devices: tuple[int, int]
    weights: tuple[str, ...]
    arrivals: tuple[str, ...]
    models: tuple[str, ...]


class Calibration(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fitted rates of one (system, engine) and everything needed to judge them."""

    schema: int = 1
    system: str
    engine: str
    rows: int
    models: int
    rates: dict[str, FittedRate]
    bands: tuple[Band, ...] = ()
    scores: tuple[Score, ...] = ()
    hull: Hull | None = None
    system_eff: dict[str, float] = {}
    """One efficiency for tools that know no more: overall, prefill, decode."""
    pace: dict[str, float] = {}
    """Seconds of the gauge's pieces while this machine was measured (calibration/pace.py)."""
    condition: float = 0.0
    """Ratio of the largest to the smallest singular value of the data's Jacobian."""
    data_sha256: str = ""
    code_version: str = ""
    command: str = ""

    @property
    def id(self) -> str:
        """Name by which predictions refer to it."""
        return f"{self.system}/{self.engine}@{self.data_sha256[:8]}"

    def to_rates(self) -> Rates:
        """The rates, ready to time with."""
        values = {name: fitted.value for name, fitted in self.rates.items()}
        return msgspec.structs.replace(Rates.default(), **values)

    def band(self, metric: str, seen: bool = False) -> Band | None:
        """The interval of one metric, if it was measured; of what was seen, where that is known."""
        mine = [band for band in self.bands if band.metric == metric]
        return next((band for band in mine if band.seen == seen), mine[0] if mine else None)


class Found(NamedTuple):
    """The calibration that serves a scenario, and what must be said about the choice."""

    calibration: Calibration | None
    warnings: tuple[str, ...]


def find(
    system: str,
    engine_class: str,
    arrival: str = "static",
    family: str = "",
    device: Device | None = None,
) -> Found:
    """The calibration for a system and an engine class ("" for whichever is there).

    Tried in this order: the very class; another generation of the same engine, if one's own
    measurements have it; any engine on the system where none was asked for; what all measured
    relatives imply, other generations on the system among them. `device` is for systems that the
    catalog does not hold.
    """
    here = _on(system)
    asked = engine_class or family
    if asked in here:
        return Found(_read(system, asked), ())
    family = engine(asked).family if asked else ""
    kin = [name for name in here if not asked or engine(name).family == family]
    if kin and (not asked or any(here[name].parent != FOLDER for name in kin)):
        return _of_kin(system, kin, asked, arrival)
    known = device or _device(system)
    pooled = _pooled(asked, family, known.vendor.lower() if known else "")
    if pooled is not None:
        unlike = f"{system} is not calibrated for {asked or 'any engine'}: "
        leant, near = _leant(pooled, known, asked)
        if near:
            return Found(leant, (f"{unlike}rates as its relatives have them, {near} first",))
        said = f"{unlike}rates pooled over other systems that ran {pooled.engine}"
        return Found(pooled, (said,))
    if kin:
        return _of_kin(system, kin, asked, arrival)
    return Found(None, (f"uncalibrated: no measurements of {asked or 'any engine'} on {system}",))


def _of_kin(system: str, kin: list[str], asked: str, arrival: str) -> Found:
    """The rates of another engine or generation as they are."""
    best = max((_read(system, name) for name in kin), key=lambda c: _rank(c, arrival))
    if not asked:
        return Found(best, (f"rates of {best.engine} on {system}",))
    return Found(best, (f"{asked} was not measured on {system}: rates of {best.engine} stand in",))


def own_engines(system: str) -> list[str]:
    """Engines of which the user keeps a calibration of a system, most rows first."""
    own = os.environ.get("PLUMBLINE_RATES")
    paths = Path(own).glob(f"{system}__*.toml") if own else ()
    read = [_read_file(path, path.stat().st_mtime_ns) for path in sorted(paths)]
    return [found.engine for found in sorted(read, key=lambda found: -found.rows)]


def _rank(calibration: Calibration, arrival: str) -> tuple[bool, int]:
    seen = calibration.hull.arrivals if calibration.hull else ()
    fixed = arrival in FIXED_BATCHES
    alike = any((name in FIXED_BATCHES) == fixed for name in seen)
    return alike, calibration.rows


def _pooled(asked: str, family: str, vendor: str) -> Calibration | None:
    """Rates of the engine class on other systems: the same vendor's first, then anybody's."""
    kin = [name for name in reversed(ENGINES) if ENGINES[name].family == family]
    for system in (f"{POOLED}-{vendor}", POOLED):
        known = _on(system)
        for name in (asked, *kin):
            if name in known:
                return _read(system, name)
    for system in (f"{POOLED}-{vendor}", POOLED):
        if POOLED in _on(system):
            return _read(system, POOLED)
    return None


def _leant(pooled: Calibration, device: Device | None, asked: str) -> tuple[Calibration, str]:
    """The stand-in with what the device's relatives say of each rate, and who they are."""
    known = kin_of(FOLDER)
    if device is None or known is None:
        return pooled, ""
    rates = {prior.name: _as_rate(prior) for prior in known.believe(device, asked)}
    near = " and ".join(nearest(device, asked, known.relatives)[:2])
    return msgspec.structs.replace(pooled, rates=rates), near


def _as_rate(prior: Prior) -> FittedRate:
    """A belief as a rate that no measurement of its own supports."""
    low, high = prior.interval()
    return FittedRate(value=prior.value, low=low, high=high, data_share=0.0, identified=False)


def _device(system: str) -> Device | None:
    """The devices of a system of the catalog; None where a file described it."""
    try:
        return load_system(system).device
    except ConfigError:
        return None


def own_folder() -> Path:
    """Where the user's own calibrations go and are looked for first."""
    return Path(os.environ.get("PLUMBLINE_RATES") or OWN_FOLDER)


def _folders() -> list[Path]:
    """The user's own calibrations before the shipped ones where PLUMBLINE_RATES asks for it; else
    those below where one works serve only systems that none is shipped for."""
    own = own_folder()
    return [own, FOLDER] if os.environ.get("PLUMBLINE_RATES") else [FOLDER, own]


def measured_as(recognised: System) -> System | None:
    """What `calibrate --system auto` measured of this machine, if it is the one that was measured.

    A file that was made on another machine of the same name has another number of units or another
    memory; it is not taken for this one's.
    """
    path = own_folder() / f"{recognised.name}.toml"
    if not path.is_file():
        return None
    found = load_system(path)
    same_memory = abs(found.device.memory_B / recognised.device.memory_B - 1.0) < _ALIKE
    return found if same_memory and found.device.units == recognised.device.units else None


_ALIKE = 0.05
"""Share by which the memory of one machine may differ between two looks at it."""


def _on(system: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder in _folders():
        for path in sorted(folder.glob(f"{system}__*.toml")):
            found.setdefault(path.stem.split("__", 1)[1], path)
    return found


def _read(system: str, engine_class: str) -> Calibration:
    path = _on(system)[engine_class]
    return _read_file(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _read_file(path: Path, _changed: int) -> Calibration:
    return decode_toml(path, Calibration)


def load_calibration(system: str, engine_class: str) -> Calibration | None:
    """The calibration of exactly this (system, engine), if there is one."""
    return _read(system, engine_class) if engine_class in _on(system) else None


def calibrations() -> list[tuple[str, str]]:
    """System and engine class of every calibration at hand."""
    names = {path.stem for folder in _folders() for path in folder.glob("*__*.toml")}
    return sorted((name.split("__", 1)[0], name.split("__", 1)[1]) for name in names)
