"""`plumbline sweep --design FILE`: a sweep that a TOML file describes, of any size."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

import msgspec

from analyzer.designs import Design, design_of
from analyzer.errors import ConfigError
from analyzer.records_engine import engine_class
from analyzer.strict import decode_toml
from reports.console import write, write_json
from reports.sweep_parts import Sweep
from reports.sweep_run import PLACES, run_sweep

ARRIVALS = ("static", "closed_loop")


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a design file may say."""

    model: str | list[str]
    system: str | list[str]
    design: str = "grid"
    points: int | None = None
    seed: int = 0
    engine: str = ""
    arrival: str = "static"
    axes: dict[str, Any] = {}


def run_design(options: Namespace) -> None:
    """Predict every point of the design."""
    place = options.on or ("ray" if options.engine == "ray" else "local")
    if place not in PLACES:
        raise ConfigError(f"--on {place!r}: a sweep runs on {' or '.join(PLACES)}")
    sweep = read(options.design, "" if options.engine in PLACES else options.engine, options)
    kept = run_sweep(sweep, options.out, place, options.address)
    done = {"out": options.out, "points": len(sweep.design), "predicted_now": kept.points}
    if options.json:
        write_json(done)
        return
    now = "" if kept.points == len(sweep.design) else f", {kept.points:,} of them now"
    write(f"{len(sweep.design):,} points into {options.out}{now}")


def read(path: str, engine: str, options: Namespace) -> Sweep:
    """The sweep of a design file; `engine` overrules the file's."""
    given = decode_toml(path, _File)
    if given.arrival not in ARRIVALS:
        raise ConfigError(f"{path}: arrival {given.arrival!r}; use {' or '.join(ARRIVALS)}")
    axes = {"model": _list(given.model), "system": _list(given.system), **given.axes}
    try:
        design = Design(
            kind=given.design, axes=design_of(axes), points=given.points, seed=given.seed
        )
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    named = engine or given.engine
    return Sweep(
        design=design,
        engine=engine_class(named) if named else "",
        arrival=given.arrival,
        given=_given(options),
        form="",
    )


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _given(options: Namespace) -> str:
    if options.system_eff is not None:
        return f"eff={options.system_eff:g}"
    if options.ideal:
        return "ideal"
    return "uncalibrated" if options.uncalibrated else options.rates or ""
