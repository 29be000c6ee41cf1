"""Measurements in, predictions beside them out: a folder with chat.csv, or any measured CSV.

  plumbline replay my-measurements/ --model llama-2-7b --system RTX3090

Writes predicted.csv and a figure each for TTFT, TPOT and E2E into --out (default: the folder).
Errors are those of the rates in use on these very rows: in-sample where the rates were fitted to
them. `plumbline calibrate --system S --perf-dir DIR` fits, and scores what it never saw.
"""

from __future__ import annotations

import csv
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError
from analyzer.systems_catalog import load_system
from reports.commands.options import basis_of, declare_basis
from reports.console import show, write, write_json
from reports.files import replacing

if TYPE_CHECKING:
    from reports.replay import Replayed


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("folder", metavar="DIR", help="a folder with measurements, or one CSV")
    parser.add_argument("--model", help="where no column says it")
    parser.add_argument("--system", help="the system that was measured")
    parser.add_argument("--tp", type=int, metavar="N", help="where neither column nor folder says")
    parser.add_argument("--weights", default="", metavar="FORMAT")
    parser.add_argument("--engine", default="", help="whose calibration applies")
    declare_basis(parser)
    parser.add_argument("--out", metavar="DIR", help="where results go; the folder itself")
    parser.add_argument("--no-figures", action="store_true", help="the table alone")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Predict what was measured."""
    from calibration.corpus.perf_dir import read_perf_dir
    from reports.replay import METRICS, figure, replay, scores

    if not options.system:
        raise ConfigError("--system is missing: the machine that was measured")
    system = load_system(options.system)
    constants: dict[str, Any] = {"hardware": system.name}
    stated = {"model": options.model, "tp": options.tp, "weight_precision": options.weights}
    constants |= {name: value for name, value in stated.items() if value}
    if options.engine:
        constants["engine"] = options.engine
    held = read_perf_dir(options.folder, constants)
    # Rates of the engine that was measured, where the rows say one.
    engines = {record.scenario.engine for record in held.records}
    options.engine = options.engine or (engines.pop() if len(engines) == 1 else "")
    found = replay(held.records, basis_of(options, system, "static"))
    place = _folder(options)
    _write(found, place / "predicted.csv")
    if not options.no_figures:
        for metric, title in METRICS.items():
            if scores(found, metric) is not None:
                _draw(place / f"{title.lower()}.svg", lambda metric=metric: figure(found, metric))
    if options.json:
        scored = {metric: scores(found, metric) for metric in METRICS}
        write_json({"out": str(place), "rates": found.basis.label, "scores": scored})
        return
    _tell(found, place, held.assumed)


def _folder(options: Namespace) -> Path:
    place = Path(options.out or options.folder)
    place = place.parent if place.is_file() else place
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{place}: cannot be made: {error.strerror}") from None
    return place


def _draw(path: Path, drawn: Any) -> None:
    try:
        text = drawn()
    except ImportError:
        raise ConfigError(
            "figures need matplotlib: pip install 'plumbline[plots]', or say --no-figures"
        ) from None
    with replacing(path) as stream:
        stream.write(text)


def _write(found: Replayed, path: Path) -> None:
    from reports.replay import METRICS

    stems = [name.removesuffix("_s") for name in METRICS]
    columns = ["input_tokens", "output_tokens"]
    for stem in stems:
        columns += [f"{stem}_ms", f"pred_{stem}_ms", f"{stem}_error"]
    with replacing(path) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*columns, "problem"])
        for row, record in enumerate(found.records):
            cells: list[object] = [
                f"{record.scenario.input_tokens or 0:g}", f"{record.scenario.output_tokens or 0:g}"
            ]  # fmt: skip
            for name in METRICS:
                cells += [
                    _cell(1e3 * found.measured[name][row]),
                    _cell(1e3 * found.predicted[name][row]),
                    _cell(found.error(name)[row]),
                ]
            writer.writerow([*cells, found.problems[row]])


def _cell(value: float) -> str:
    return f"{value:.6g}" if value == value else ""


def _tell(found: Replayed, place: Path, assumed: tuple[str, ...]) -> None:
    from reports.replay import METRICS, scores
    from reports.table import table

    rows = []
    for name, title in METRICS.items():
        scored = scores(found, name)
        if scored is None:
            continue
        rows.append([
            title, f"{scored['rows']:g}", f"{scored['mape']:.1%}", f"{scored['median']:.1%}",
            f"{scored['largest']:.1%}", f"{scored['beyond']:.1%}", f"{scored['bias']:+.1%}",
            f"{scored['correlation']:.3f}",
        ])  # fmt: skip
    columns = ("", "rows", "mean |error|", "median", "largest", "beyond 20 %", "bias", "r")
    show(table(columns, rows, left=("",)))
    write(f"rates: {found.basis.label}; errors are (predicted/measured) - 1 on these very rows")
    for note in (*assumed, *found.basis.warnings):
        write(f"note: {note}")
    missing = [problem for problem in found.problems if problem]
    if missing:
        write(f"{len(missing)} rows have no prediction, the first because {missing[0]}")
    write(f"written into {place}")
