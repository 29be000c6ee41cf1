"""Predict a grid of batches, lengths, tensor parallelism and formats into a CSV.

  plumbline sweep --model llama-3-8b --system H100-SXM --batch 1:64 --input 128,1024 \\
                  --output 256 --tp 1,2,4 --weights bf16,fp8 --out grid.csv

An axis is a list (1,2,4), a range (1:64) or a range with a step (0:4096:128, from the step on).
Points that do not fit the memory or the model's context have no times and 'no' in column 'fits'.
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
    engine_of,
    model_of,
    system_of,
)
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
    parser.add_argument("--out", metavar="FILE", help="the CSV")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")
    declare_basis(parser)


def run(options: Namespace) -> None:
    """Predict the grid."""
    if not options.out:
        raise ConfigError("--out is missing: the file that the figures go to")
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
    basis = basis_of(options, system, "static")
    swept = sweep(model, system, grid, basis, Plan(engine=engine_of(options)))
    with replacing(options.out) as stream:
        _write(stream, swept)
    ran = int(np.isfinite(swept.columns["ttft_s"]).sum())
    done = {"out": options.out, "points": points, "fit": ran, "rates": basis.label}
    if options.json:
        write_json(done)
    else:
        write(f"{points} points into {options.out}, {ran} of them fit; rates: {basis.label}")


def axis(name: str, text: str) -> tuple[int, ...]:
    """The values of "1,2,4", "1:64" or "0:4096:128"; all of them at least 1."""
    values: list[int] = []
    for part in text.split(","):
        ends = part.split(":")
        if len(ends) > 3 or not all(
            end.strip().isascii() and end.strip().isdigit() for end in ends
        ):
            raise ConfigError(f"--{name}: {part!r} is neither a whole number nor a range like 1:64")
        numbers = [int(end) for end in ends]
        low, high = numbers[0], numbers[min(1, len(numbers) - 1)]
        step = numbers[2] if len(numbers) == 3 else 1
        if step < 1:
            raise ConfigError(f"--{name}: {part!r} has a step below 1")
        first = step if low == 0 and len(numbers) == 3 else low
        values += range(first, high + 1, step)
    if not values:
        raise ConfigError(f"--{name}: {text!r} holds no values")
    if min(values) < 1:
        raise ConfigError(f"--{name} must be at least 1, not {min(values)}")
    return tuple(dict.fromkeys(values))


def _write(stream: IO[str], swept: Swept) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    names = ("weights", "batch", "input_tokens", "output_tokens", "tp")
    writer.writerow([*names, *(_title(name) for name in METRICS), "fits"])
    writer.writerows(_rows(swept))


def _title(name: str) -> str:
    if name.endswith("tok_s"):
        return name
    stem, _, unit = name.rpartition("_")
    return f"{stem}{_TITLES[unit][0]}"


def _rows(swept: Swept) -> Iterator[list[object]]:
    grid = swept.grid
    axes = (grid.weights, grid.batch, grid.input_tokens, grid.output_tokens, grid.tp)
    scaled = [(swept.columns[name] * _factor(name)).ravel().tolist() for name in METRICS]
    for point, figures in zip(product(*axes), zip(*scaled, strict=True), strict=True):
        ran = figures[0] == figures[0]
        cells = [f"{value:.7g}" if value == value else "" for value in figures]
        yield [*point, *cells, "yes" if ran else "no"]


def _factor(name: str) -> float:
    return 1.0 if name.endswith("tok_s") else _TITLES[name.rpartition("_")[2]][1]
