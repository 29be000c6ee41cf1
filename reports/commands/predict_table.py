"""`plumbline predict --csv`: all rows of a table."""

from __future__ import annotations

from argparse import Namespace

from analyzer import basis
from analyzer.basis import Basis
from analyzer.errors import ConfigError
from analyzer.scenarios.groups import Choose
from analyzer.system import System
from reports.console import write, write_json
from reports.predictions import predict_csv

_MEANT_FOR_TABLES = {"csv", "out", "json", "system_eff", "uncalibrated", "ideal", "rates",
                     "source", "software"}  # fmt: skip


def run_table(options: Namespace, defaults: Namespace) -> None:
    """Predict a table and say how many rows could not be answered in full."""
    for name, value in vars(options).items():
        if name not in _MEANT_FOR_TABLES and value != getattr(defaults, name):
            flag = name.replace("_", "-")
            raise ConfigError(f"--{flag} does not go with --csv: the table's columns say it")
    done = predict_csv(options.csv, options.out, _chooser(options))
    if options.json:
        write_json({"out": options.out, **done._asdict()})
        return
    write(f"{done.rows} row{'s' * (done.rows != 1)} written to {options.out}")
    if done.with_problem:
        write(f"{done.with_problem} of them lack figures; column 'problem' says why")


def _chooser(options: Namespace) -> Choose:
    plain = _rates(options)
    if not options.source and not options.software:
        return plain
    from reports.commands.options import with_sources

    made: dict[tuple[str, str, str], Basis] = {}

    def choose(system: System, engine: str, arrival: str) -> Basis:
        asked = system.name, engine, arrival
        if asked not in made:
            made[asked] = with_sources(options, plain(system, engine, arrival), system)
        return made[asked]

    return choose


def _rates(options: Namespace) -> Choose:
    fixed: Basis | None = None
    if options.system_eff is not None:
        fixed = basis.single(options.system_eff)
    elif options.ideal:
        fixed = basis.ideal()
    elif options.uncalibrated:
        fixed = basis.uncalibrated()
    elif options.rates:
        fixed = basis.given(options.rates)
    if fixed is None:
        return basis.calibrated
    held = fixed

    def choose(_system: System, _engine: str, _arrival: str) -> Basis:
        return held

    return choose
