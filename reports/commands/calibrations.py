"""What was fitted: for each system and engine, to how many measurements, and how far off it is.

plumbline calibrations            all of them
plumbline calibrations RTX3090    those of one system, with every rate
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

import msgspec

from analyzer.calibrated import Calibration, calibrations, find
from analyzer.errors import ConfigError, nearest
from analyzer.timing.rates import PARAMETERS
from reports.console import show, write, write_json


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("system", nargs="?", default="", help="one system, with every rate")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """List calibrations."""
    word = options.system.lower()
    known = calibrations()
    named = [(system, kind) for system, kind in known if not word or system.lower() == word]
    if not named:
        _refuse(options.system, known)
    held = [found for pair in named if (found := find(*pair).calibration) is not None]
    if options.json:
        write_json([msgspec.to_builtins(one) for one in held])
        return
    from reports.table import table

    columns = ("system", "engine", "rows", "models", "identified", "ttft", "tpot", "e2e")
    show(table(columns, [_row(one) for one in held], left=("system", "engine")))
    write("ttft, tpot, e2e: geomean error on models that the fit never saw")
    if word:
        for one in held:
            show(_rates(one))


def _refuse(system: str, known: list[tuple[str, str]]) -> None:
    if not known:
        raise ConfigError("nothing is calibrated yet; run plumbline calibrate --system NAME")
    names = {name for name, _ in known}
    raise ConfigError(f"{system} is not calibrated{nearest(system, names)}")


def _row(one: Calibration) -> list[str]:
    scores = {score.metric: score.held_out for score in one.scores}
    identified = sum(rate.identified for rate in one.rates.values())
    errors = [scores.get(metric) for metric in ("ttft_s", "tpot_s", "e2e_s")]
    return [
        one.system,
        one.engine,
        str(one.rows),
        str(one.models),
        f"{identified}/{len(one.rates)}",
        *("" if error is None else f"{error:.1%}" for error in errors),
    ]


def _rates(one: Calibration) -> Any:
    from reports.table import table

    rows = [
        (
            name,
            f"{rate.value:.4g}",
            f"{rate.low:.3g} to {rate.high:.3g}",
            f"{rate.data_share:.0%}",
            "yes" if rate.identified else "no",
            PARAMETERS[name].meaning if name in PARAMETERS else "",
        )
        for name, rate in one.rates.items()
    ]
    columns = ("rate", "value", "90 % interval", "from data", "identified", "meaning")
    drawn = table(columns, rows, left=("rate", "identified", "meaning"))
    drawn.title = f"{one.system}, {one.engine}"
    return drawn
