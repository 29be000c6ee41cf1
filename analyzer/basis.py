"""On what a prediction rests: its rates, whose measurements they come from, and what that implies.

`calibrated` looks for the calibration of a system and an engine; `given` reads rates from a file;
`single`, `ideal` and `uncalibrated` need no measurements. Whatever the choice, the basis says it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.calibrated import POOLED, Calibration, Found, calibrations, find, own_engines
from analyzer.engines import generations
from analyzer.errors import ConfigError
from analyzer.records_arrival import FIXED_BATCHES
from analyzer.strict import convert, decode_toml
from analyzer.system import System
from analyzer.timing.machine import Machine, machine
from analyzer.timing.rates import DEFAULT_EFFICIENCY, Rates

if TYPE_CHECKING:
    from analyzer.sources.base import Ladder

Array = NDArray[np.float64]

ORIGINS = {
    "calibrated": "fitted to measurements of this system and engine",
    "prior": "the measurements could not tell; taken from other systems",
    "default": f"nobody measured it: {DEFAULT_EFFICIENCY:g} of the peak, or no cost",
    "ideal": "the speed of light",
    "given": "given by the user",
}
"""Where a rate may come from."""

BANDED_BY = {
    "ttft_s": ("ttft_s", False),
    "tpot_s": ("tpot_s", False),
    "e2e_s": ("e2e_s", False),
    "prefill_tok_s": ("ttft_s", True),
    "decode_tok_s": ("tpot_s", True),
    "total_tok_s": ("e2e_s", True),
    "peak_mem_B": ("peak_mem_B", False),
}
"""Which measured band bounds a metric, and whether the metric falls where that one rises."""


class Basis(NamedTuple):
    """Rates with their origin."""

    rates: Rates
    label: str
    """In words: 'RTX3090/transformers@1a2b3c4d', 'uncalibrated', 'system_eff=0.6', ..."""
    origin: str
    """What `origin_of` says of rates that the calibration, if any, does not hold."""
    calibration: Calibration | None = None
    borrowed: bool = False
    """True where the measurements are another engine's or other systems'."""
    warnings: tuple[str, ...] = ()
    ladder: Ladder | None = None
    """Other sources of operators' times, asked before the rates."""

    def on(self, system: System) -> Machine | None:
        """The machine to predict on, where it is not the system as its data sheet has it."""
        return machine(system)._replace(ladder=self.ladder) if self.ladder else None

    def origin_of(self, rate: str) -> str:
        """Which of ORIGINS one rate has."""
        fitted = self.calibration.rates.get(rate) if self.calibration else None
        if fitted is None:
            return self.origin
        return "calibrated" if fitted.identified and not self.borrowed else "prior"

    def interval(self, metric: str, values: Any, seen: Any = False) -> Interval | None:
        """Where a measurement of `metric` lies, given its prediction; None: not known.

        `seen` is True, scenario by scenario, where the model and everything else was measured.
        What was measured around predictions by rates says nothing of times from other sources.
        """
        if self.ladder is not None and metric != "peak_mem_B":
            return None
        band_of, inverse = BANDED_BY[metric]
        if self.calibration is None or self.calibration.band(band_of) is None:
            return None
        bounds = []
        for measured in (False, True):
            band = self.calibration.band(band_of, measured and not self.borrowed)
            if band is None:
                return None
            ends = (1.0 / band.high, 1.0 / band.low) if inverse else (band.low, band.high)
            bounds.append((*ends, band.level))
        numbers = np.asarray(values)
        low, high = (np.where(seen, bounds[1][i], bounds[0][i]) for i in (0, 1))
        return Interval(bounds[0][2], numbers * low, numbers * high)


def of_parts(basis: Basis, ttft_s: Any, e2e_s: Any, seen: Any = False) -> Interval | None:
    """The interval of an end-to-end time that nobody measured under such arrivals, from those of
    its two parts: both ends add up, which is wide enough however the two errors go together."""
    first = basis.interval("ttft_s", ttft_s, seen)
    later = basis.interval("tpot_s", np.asarray(e2e_s) - np.asarray(ttft_s), seen)
    if first is None or later is None:
        return None
    return Interval(first.level, first.low + later.low, first.high + later.high)


WHOLE = {"e2e_s": False, "total_tok_s": True}
"""Metrics of the whole time, and whether they fall where it grows."""


def around(
    basis: Basis, metric: str, values: Any, ttft_s: Any, e2e_s: Any, seen: Any = False
) -> Interval | None:
    """The interval of a metric: as measured, else from the parts of the time that it is made of."""
    held = basis.interval(metric, values, seen)
    if held is not None or metric not in WHOLE or basis.ladder is not None:
        return held
    whole = of_parts(basis, ttft_s, e2e_s, seen)
    if whole is None or not WHOLE[metric]:
        return whole
    work = np.asarray(values) * np.asarray(e2e_s)
    return Interval(whole.level, work / whole.high, work / whole.low)


class Interval(NamedTuple):
    """Bounds between which a share `level` of held-out measurements lay."""

    level: float
    low: Array
    high: Array


def calibrated(system: System, engine_class: str = "", arrival: str = "static") -> Basis:
    """The calibration that serves a system; "" for the engine that `usual` names."""
    if not engine_class:
        name, said = usual(system, arrival)
        if name:
            found_for = calibrated(system, name, arrival)
            return found_for._replace(warnings=(said, *found_for.warnings))
    found = _found(system, engine_class, arrival)
    if found.calibration is None:
        return uncalibrated()._replace(warnings=found.warnings)
    calibration = found.calibration
    own = calibration.system in (system.name, system.device.name)
    borrowed = not own or bool(engine_class and calibration.engine != engine_class)
    return Basis(
        calibration.to_rates(), calibration.id, "default", calibration, borrowed, found.warnings
    )


def _found(system: System, engine_class: str, arrival: str) -> Found:
    """What is known of the system; where that is nothing, of systems with the same device."""
    found = find(system.name, engine_class, arrival, device=system.device)
    if found.calibration is None or found.calibration.system != system.name:
        of_device = find(system.device.name, engine_class, arrival)
        if of_device.calibration is not None and of_device.calibration.system == system.device.name:
            return of_device
    return found


def generation(system: System, engine_class: str, arrival: str) -> str:
    """The generation of an engine to go by where none is stated: the newest that was measured
    under such arrivals on the system, else the one that was named."""
    named = generations(engine_class)
    fixed = arrival in FIXED_BATCHES
    for name in reversed(named):
        held = _found(system, name, arrival).calibration
        if held is None or held.engine != name or held.system == POOLED or held.hull is None:
            continue
        if any((seen in FIXED_BATCHES) == fixed for seen in held.hull.arrivals):
            return name
    return engine_class


def usual(system: System, arrival: str) -> tuple[str, str]:
    """The engine to go by where none is named, and what to say of it.

    One's own measurements first; then vLLM, in the generation that `--engine vllm` takes; then what
    was measured without saying with which engine; then, on GPUs, today's vLLM by its relatives.
    ("", "") leaves the choice to `find`: whatever was measured most.
    """
    here = [name for where, name in calibrations() if where in (system.name, system.device.name)]
    own = [name for name in own_engines(system.name) if name in here]
    if own:
        return own[0], f"no engine is named: your own measurements with {own[0]}"
    newest = generation(system, SERVER, arrival)
    if newest in here:
        return newest, f"no engine is named: {newest} is taken"
    measured = [name for name in reversed(generations(SERVER)) if name in here]
    for name in (*measured, "unstated"):
        if name in here:
            return name, f"no engine is named: {name} is taken"
    if system.device.kind == "gpu":
        return SERVER, f"no engine is named: {SERVER} is taken"
    return "", ""


SERVER = "vllm-v1"
"""What most people serve with today."""


def with_sources(basis: Basis, system: System, spec: str, software: str = "") -> Basis:
    """The same rates, asked only where none of the sources in front of them knows an operator."""
    from analyzer.sources.base import Context, Ladder, ladder
    from analyzer.sources.credit import deviation

    options: dict[str, dict[str, Any]] = {
        name: {"software": software} for name in ("table", "residual") if software
    }
    band = basis.calibration.band("tpot_s") if basis.calibration else None
    if band is not None:
        options["analytic"] = {"uncertainty": deviation(band.low, band.high)}
    context = Context(system, machine(system), basis.rates, options)
    return basis._replace(ladder=Ladder(spec, tuple(ladder(spec, context))))


def uncalibrated() -> Basis:
    """The customary share of every peak."""
    return Basis(Rates.default(), "uncalibrated", "default")


def ideal() -> Basis:
    """Every peak reached and nothing else costs anything."""
    return Basis(Rates.ideal(), "ideal", "ideal")


def single(system_eff: float) -> Basis:
    """One efficiency in (0, 1] for compute, memory and links alike."""
    return Basis(Rates.single(system_eff), f"system_eff={system_eff:g}", "given")


def given(path: str | Path) -> Basis:
    """Rates from a file: a calibration, or a table of rates by name."""
    document = decode_toml(path, dict[str, Any])
    if isinstance(document.get("rates"), dict):
        calibration = convert(document, Calibration, str(path))
        return Basis(calibration.to_rates(), calibration.id, "default", calibration)
    for name, value in document.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{path}: {name}: a rate is a number, not {value!r}")
    try:
        rates = Rates.default().with_values(**document)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return Basis(rates, str(path), "given")


def family_of(arrival: str) -> str:
    """The closed form that an arrival is answered with."""
    return "static" if arrival in FIXED_BATCHES else arrival
