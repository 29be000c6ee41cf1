"""How fast plans are searched, and designs of any size are swept."""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from analyzer import basis
from analyzer.models_catalog import load
from analyzer.search import Budget, Offer, Question, Space, search
from analyzer.systems_catalog import load_system
from analyzer.workload import SLO
from bench.measures import Figure, best

DESIGN = """\
model = ["llama-3.1-8b", "qwen3-32b"]
system = "H100-SXM"
design = "latin-hypercube"
points = {points}
seed = 7

[axes]
batch = {{ low = 1, high = 256, log = true }}
input_tokens = {{ low = 128, high = 8192, log = true }}
output_tokens = [128, 512]
tp = [1, 2, 4, 8]
weights = ["bf16", "fp8"]
"""


def a_search() -> Figure:
    """Every layout of DeepSeek-V3 on up to 64 devices, two cache formats, whole and chunked."""
    system = load_system("H200-SXM")
    asked = Question(
        model=load("deepseek-v3"),
        offers=(Offer(system, basis.calibrated(system, "", "closed_loop")),),
        input_tokens=4000,
        output_tokens=500,
        slo=SLO(ttft_s=1.0, tpot_s=0.03),
        budget=Budget(devices=64),
        space=Space(kv=("bf16", "fp8"), chunk_tokens=(0, 4096)),
    )
    plans = search(asked).plans
    spent = best(lambda: search(asked), 3)
    return Figure(
        f"search of {plans:,} plans, DeepSeek-V3 on up to 64 H200",
        f"{spent.wall_s:.2f} s",
        f"{spent.cpu_s:.2f} s",
        "100,000 in 5 s",
    )


def a_design(points: int, ending: str) -> Figure:
    """A Latin hypercube over two models, in a process of its own; its memory beside it."""
    code = "import sys, plumbline; sys.exit(plumbline.main(sys.argv[1:]))"
    with tempfile.TemporaryDirectory() as folder:
        design, out = Path(folder, "design.toml"), Path(folder, f"points{ending}")
        design.write_text(DESIGN.format(points=points))
        words = ["sweep", "--design", str(design), "--out", str(out)]
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        done = subprocess.Popen([sys.executable, "-c", code, *words],  # noqa: S603
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        peak_B = _watched(done)
        wall_s = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        size_B = out.stat().st_size
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Figure(
        f"sweep --design, {points:,} points to {ending} of {size_B / 1e6:,.0f} MB, "
        f"peak memory {peak_B / 1e9:.2f} GB",
        f"{points / wall_s:,.0f} points/s",
        f"{points / cpu_s:,.0f} points/s",
    )


def _watched(process: subprocess.Popen[bytes]) -> float:
    """The most memory that a process held, as the system counts it, until it ended."""
    status, peak_kB = Path(f"/proc/{process.pid}/status"), 0.0
    while process.poll() is None:
        try:
            for line in status.read_text().splitlines():
                if line.startswith("VmHWM"):
                    peak_kB = float(line.split()[1])
        except (OSError, IndexError):
            break
        time.sleep(0.05)
    if process.wait():
        raise SystemExit("the sweep failed")
    return peak_kB * 1024


LARGE = ((1_000_000, ".csv"), (1_000_000, ".parquet"), (10_000_000, ".csv"),
         (10_000_000, ".parquet"))  # fmt: skip
"""Measured with `--long` only."""
