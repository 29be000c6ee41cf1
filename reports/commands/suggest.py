"""`plumbline calibrate --suggest N`: which measurements would teach most."""

from __future__ import annotations

import csv
import re
from argparse import Namespace
from pathlib import Path

from analyzer.calibrated import Calibration, find
from analyzer.engines import ENGINES
from analyzer.errors import ConfigError
from analyzer.records import Scenario
from analyzer.records_engine import engine_class
from analyzer.systems_catalog import load_system
from reports.console import show, write, write_json
from reports.files import replacing

MOST_MODELS = 3


def suggest(options: Namespace, folder: Path) -> None:
    """Choose, print and write a plan."""
    from calibration.candidates import affordable, arrival_of, candidates, plan_rows
    from calibration.own import priors_around
    from calibration.suggest import design

    if options.suggest < 1:
        raise ConfigError(f"--suggest must be at least 1, not {options.suggest}")
    system = load_system(options.system)
    engine = engine_class(options.engine) if options.engine else ""
    known = find(system.name, engine).calibration
    arrival = arrival_of(known)
    named = options.engine or _name(known)
    offered = candidates(
        system,
        options.system,
        named,
        _models(options, known),
        options.weights,
        arrival,
        options.devices,
    )
    priors = priors_around(system.name, engine, offered.problem)
    offered = affordable(offered, priors)
    made = design(offered.problem, priors, options.suggest)
    chosen = [offered.scenarios[index] for index in made.chosen]
    path = folder / f"plan-{re.sub(r'[^A-Za-z0-9.+]+', '-', system.name)}.csv"
    _write(path, plan_rows(chosen))
    widths = {
        name: {"before": float(made.before[i]), "after": float(made.after[i])}
        for i, name in enumerate(("TTFT", "TPOT"))
    }
    if options.json:
        write_json({"plan": str(path), "rows": plan_rows(chosen), "half_width_90": widths})
        return
    _print(options.system, chosen, widths, path, len(offered.scenarios))


def _name(known: Calibration | None) -> str:
    return known.engine if known is not None and known.engine in ENGINES else "vllm"


def _models(options: Namespace, known: Calibration | None) -> list[str]:
    """The models asked for (commas between them), else some that were measured there before."""
    if options.model:
        return [name.strip() for name in options.model.split(",") if name.strip()]
    if known is None or known.hull is None:
        raise ConfigError(
            f"--model is missing: nothing was measured on {options.system} yet that could say "
            "which models matter"
        )
    return list(known.hull.models[:MOST_MODELS])


def _write(path: Path, rows: list[dict[str, str]]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path.parent}: cannot be made: {error.strerror}") from None
    with replacing(path) as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _print(
    system: str,
    chosen: list[Scenario],
    widths: dict[str, dict[str, float]],
    path: Path,
    offered: int,
) -> None:
    from reports.table import table

    rows = [
        (s.model, str(s.tp), f"{s.concurrency:g}", f"{s.input_tokens:g}", f"{s.output_tokens:g}")
        for s in chosen
    ]
    columns = ("model", "tp", "batch or concurrency", "input", "output")
    show(table(columns, rows, left=("model",)))
    for name, width in widths.items():
        write(
            f"{name}: the 90 % interval over all {offered} scenarios would narrow, on average, "
            f"from ±{width['before']:.0%} to ±{width['after']:.0%}"
        )
    write(f"Plan written to {path}: fill in ttft_ms and tpot_ms (and e2e_ms), then run")
    write(f"  plumbline calibrate --system {system} --perf-dir {path}")
