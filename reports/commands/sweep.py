"""Predict a grid of batches, lengths, tensor parallelism and formats into a CSV.

  plumbline sweep --model llama-3-8b --system H100-SXM --batch 1:64 --input 128,1024 \\
                  --output 256 --tp 1,2,4 --weights bf16,fp8 --out grid.csv

An axis is a list (1,2,4), a range (1:64) or a range with a step (0:4096:128, from the step on).
Points that do not fit the memory or the model's context have no times and 'no' in column 'fits'.

  plumbline sweep --design space.toml --out points.parquet [--on ray]

A design file describes grids, random and Latin-hypercube points of any number (docs/decide.md);
they go to CSV or Parquet piece by piece, and the same command goes on where it was interrupted.
"""

from __future__ import annotations

import csv
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from itertools import product
from typing import IO

import numpy as np

from analyzer.errors import ConfigError
from analyzer.plan import Plan
from analyzer.sweep import METRICS, Grid, Swept, sweep
from reports.commands.options import (
    basis_of,
    declare_basis,
    declare_question,
    declare_sources,
    engine_of,
    model_of,
    system_of,
    with_sources,
)
from reports.commands.sweep_axes import axis
from reports.console import write, write_json
from reports.files import replacing

_MOST = 20_000_000
"""Points of one sweep: their figures take 1.1 GB."""
_TITLES = {"s": ("_ms", 1e3), "B": ("_gb", 1e-9)}


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    declare_question(parser)
    axes = parser.add_argument_group("axes")
    for name, usual in (("--batch", "1"), ("--input", "1024"), ("--output", "128"), ("--tp", "1")):
        axes.add_argument(name, default=usual, metavar="LIST")
    axes.add_argument("--weights", default="", metavar="FORMATS", help="the model's own")
    parser.add_argument("--engine", default="", help="whose calibration applies")
    parser.add_argument("--out", metavar="FILE", help="the CSV, or a .parquet of a design")
    design = parser.add_argument_group("designs")
    design.add_argument("--design", metavar="FILE", help="a TOML file instead of the axes here")
    design.add_argument("--on", metavar="WHERE", help="local or ray (also: --engine ray)")
    design.add_argument("--address", default="", help="of a Ray cluster; empty: this machine")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")
    declare_basis(parser)
    declare_sources(parser)


def run(options: Namespace) -> None:
    """Predict the grid."""
    if not options.out:
        raise ConfigError("--out is missing: the file that the figures go to")
    if options.design:
        from reports.commands.sweep_design import run_design

        run_design(options)
        return
    if options.on or options.engine in ("local", "ray"):
        raise ConfigError("a sweep on ray is described by a file: --design")
    model, (system, _) = model_of(options), system_of(options)
    grid = Grid(
        batch=axis("batch", options.batch),
        input_tokens=axis("input", options.input),
        output_tokens=axis("output", options.output),
        tp=axis("tp", options.tp),
        weights=tuple(options.weights.split(",")) if options.weights else (model.native_weights,),
    )
    points = int(np.prod(grid.shape, dtype=np.float64))
    if points > _MOST:
        raise ConfigError(f"the grid has {points:,} points; {_MOST:,} is the most at once")
    basis = with_sources(options, basis_of(options, system, "static"), system)
    swept = sweep(model, system, grid, basis, Plan(engine=engine_of(options)))
    with replacing(options.out) as stream:
        _write(stream, swept)
    ran = int(np.isfinite(swept.columns["ttft_s"]).sum())
    done = {"out": options.out, "points": points, "fit": ran, "rates": basis.label}
    by = {name: float(np.nanmean(share)) for name, share in swept.by.items()} if ran else {}
    if options.json:
        asked = {"sources": {"share_of_time": by, "remarks": swept.remarks}} if swept.by else {}
        write_json({**done, **asked})
        return
    write(f"{points} points into {options.out}, {ran} of them fit; rates: {basis.label}")
    if basis.ladder:
        _tell_sources(swept, by)


def _tell_sources(swept: Swept, by: dict[str, float]) -> None:
    """Who stood for the times; columns `by_…` say it point by point."""
    from reports.sources_text import left_out, listed

    shares = ", ".join(f"{name} {share:.0%}" for name, share in by.items())
    write(f"operators' times, mean over the points: {shares}")
    for name, reasons in swept.remarks.items():
        write(f"  {name}: {listed(reasons)}")
    if swept.basis.ladder:
        for line in left_out(swept.basis.ladder):
            write(line)


def _write(stream: IO[str], swept: Swept) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    names = ("weights", "batch", "input_tokens", "output_tokens", "tp")
    writer.writerow([*names, *(_title(name) for name in METRICS), *_by(swept), "fits"])
    writer.writerows(_rows(swept))


def _by(swept: Swept) -> list[str]:
    return [f"by_{name}" for name in swept.by]


def _title(name: str) -> str:
    if name.endswith("tok_s"):
        return name
    stem, _, unit = name.rpartition("_")
    return f"{stem}{_TITLES[unit][0]}"


def _rows(swept: Swept) -> Iterator[list[object]]:
    grid = swept.grid
    axes = (grid.weights, grid.batch, grid.input_tokens, grid.output_tokens, grid.tp)
    scaled = [(swept.columns[name] * _factor(name)).ravel().tolist() for name in METRICS]
    scaled += [share.ravel().tolist() for share in swept.by.values()]
    for point, figures in zip(product(*axes), zip(*scaled, strict=True), strict=True):
        ran = figures[0] == figures[0]
        cells = [f"{value:.7g}" if value == value else "" for value in figures]
        yield [*point, *cells, "yes" if ran else "no"]


def _factor(name: str) -> float:
    return 1.0 if name.endswith("tok_s") else _TITLES[name.rpartition("_")[2]][1]
