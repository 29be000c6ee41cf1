"""One function per figure."""

from __future__ import annotations

import csv
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analyzer import basis
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.sweep import Grid, sweep
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload
from reports.predictions import predict_csv

LLAMA_70B = Plan(tp=8)
WORK = Workload(batch=8, input_tokens=1024, output_tokens=256)
ROWS = 100_000


class Figure(NamedTuple):
    """One figure: what, how much, and what was asked for."""

    what: str
    wall: str
    cpu: str
    asked: str = ""


class Spent(NamedTuple):
    """Seconds of a run, on the wall and of the processor."""

    wall_s: float
    cpu_s: float


def best(run: Callable[[], object], times: int) -> Spent:
    """The least of several runs, wall and processor each."""
    spent = []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        spent.append((time.perf_counter() - wall, time.process_time() - cpu))
    return Spent(min(wall for wall, _ in spent), min(cpu for _, cpu in spent))


def one_prediction() -> Figure:
    """A warm call."""
    model, system = load("llama-3-70b"), load_system("H100-SXM")
    rates = basis.calibrated(system).rates

    def ten() -> None:
        for _ in range(10):
            predict(model, system, LLAMA_70B, WORK, rates)

    ten()
    spent = best(ten, 60)
    return Figure(
        "predict(), Llama-3-70B TP8 on H100, warm",
        f"{spent.wall_s * 100:.2f} ms",
        f"{spent.cpu_s * 100:.2f} ms",
        "< 1 ms",
    )


def a_million_points() -> Figure:
    """A sweep of batch × input × output × tp × format."""
    model, system = load("llama-3.1-70b"), load_system("H100-SXM")
    grid = Grid(
        batch=tuple(range(1, 51)),
        input_tokens=tuple(np.linspace(128, 4096, 40)),
        output_tokens=tuple(np.linspace(16, 2048, 25)),
        tp=(1, 2, 4, 8),
        weights=("bf16", "fp16", "fp8", "int8", "int4"),
    )
    rates = basis.calibrated(system)
    spent = best(lambda: sweep(model, system, grid, rates), 3)
    return Figure(
        "sweep of 1,000,000 points, Llama-3.1-70B on H100",
        f"{spent.wall_s:.2f} s",
        f"{spent.cpu_s:.2f} s",
        "< 2 s",
    )


def one_prediction_by_table() -> Figure:
    """A warm call whose operators a measured table times."""
    model, system = load("llama-3-70b"), load_system("H100-SXM")
    asked = basis.with_sources(basis.calibrated(system), system, "table,analytic", "vllm")

    def ten() -> None:
        on = asked.on(system)
        for _ in range(10):
            predict(model, system, LLAMA_70B, WORK, asked.rates, on=on)

    ten()
    spent = best(ten, 10)
    return Figure(
        "the same, operators by the measured table",
        f"{spent.wall_s * 100:.2f} ms",
        f"{spent.cpu_s * 100:.2f} ms",
        "< 10 ms",
    )


def a_million_points_by_table() -> Figure:
    """The sweep of a million points, operators by the measured table; read once, not timed."""
    model, system = load("llama-3.1-70b"), load_system("H100-SXM")
    asked = basis.with_sources(basis.calibrated(system), system, "table,analytic", "vllm")
    grid = Grid(
        batch=tuple(range(1, 51)),
        input_tokens=tuple(np.linspace(128, 4096, 40)),
        output_tokens=tuple(np.linspace(16, 2048, 25)),
        tp=(1, 2, 4, 8),
        weights=("bf16", "fp16", "fp8", "int8", "int4"),
    )
    spent = best(lambda: sweep(model, system, grid, asked), 1)
    return Figure(
        "sweep of 1,000,000 points by the measured table",
        f"{spent.wall_s:.1f} s",
        f"{spent.cpu_s:.1f} s",
        "< 60 s",
    )


def memory_of_a_sweep() -> Figure:
    """The same in a process of its own, which has nothing else in memory."""
    code = (
        "from bench.measures import a_million_points, peak_B; a_million_points(); print(peak_B())"
    )
    done = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return Figure(
        "its memory, all of the process", f"{float(done.stdout) / 1e9:.2f} GB", "", "< 1 GB"
    )


def peak_B() -> float:
    """The most that this process has held in memory."""
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(held if sys.platform == "darwin" else held * 1024)


def cold_command() -> Figure:
    """From nothing to the answer on the terminal."""
    words = "predict --model llama-3-8b --system H100-SXM --batch 8 --input 1024 --output 256"
    code = "import sys, plumbline; sys.exit(plumbline.main(sys.argv[1:]))"

    def once() -> None:
        subprocess.run(  # noqa: S603 - this very interpreter
            [sys.executable, "-c", code, *words.split()], capture_output=True, check=True
        )

    once()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = best(once, 7)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 7
    return Figure("plumbline predict, cold", f"{spent.wall_s:.2f} s", f"{cpu_s:.2f} s", "< 0.7 s")


def a_table() -> Figure:
    """Static rows of many lengths, four models on two systems, read and written as CSV."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "scenarios.csv"), Path(folder, "predictions.csv")
        _write_scenarios(source)
        spent = best(lambda: predict_csv(source, target), 3)
    return Figure(
        f"predict --csv, {ROWS:,} static rows",
        f"{ROWS / spent.wall_s:,.0f} rows/s",
        f"{ROWS / spent.cpu_s:,.0f} rows/s",
        "> 20,000 rows/s",
    )


def _write_scenarios(path: Path) -> None:
    rng = np.random.default_rng(1)
    models = ("llama-2-7b", "llama-3-8b", "qwen3-8b", "mixtral-8x7b")
    with open(path, "w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(
            ("hardware", "gpus", "tp", "model", "engine", "weight_precision",
             "batch_or_concurrency", "arrival", "input_tokens", "output_tokens")
        )  # fmt: skip
        for row in range(ROWS):
            writer.writerow(
                (("H100-SXM", "A100-SXM-80GB")[row % 2], 2, 2, models[row % 4], "vLLM", "fp16",
                 int(rng.integers(1, 65)), "static batch",
                 int(rng.integers(16, 2049)), int(rng.integers(2, 1025)))
            )  # fmt: skip


FIGURES: tuple[Callable[[], Figure], ...] = (
    one_prediction,
    one_prediction_by_table,
    a_million_points,
    a_million_points_by_table,
    memory_of_a_sweep,
    cold_command,
    a_table,
)
