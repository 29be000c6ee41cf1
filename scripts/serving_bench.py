"""How fast the simulator and the load generator are, on this machine now.

    python scripts/serving_bench.py [--streams 2000] [--rate 500] [--seconds 20]

Simulator: engine steps per minute of one core, at a light, a busy and a saturated rate; peak memory
with few and with many requests; the search for the highest rate under an SLO. Generator: a fake
server in a process of its own holds the streams open; the lag between schedule and sending, and of
the event loop, is printed with the share of a core that was used.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

from analyzer.models_catalog import load as load_model
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.serving import EngineOptions, SimOptions, TableTimer, max_rate, simulate
from analyzer.serving.steps import step_timer
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from analyzer.workload import SLO
from analyzer.workload_arrivals import Fixed, Load, LogNormal, Poisson
from profilers.serving import Target
from profilers.serving.generator import generate

FAKE = Path(__file__).parents[1] / "tests" / "serving" / "fake_server.py"
ENGINE = EngineOptions(kv_blocks=27_000, max_model_tokens=8192)


def timer() -> TableTimer:
    """An 8B model on one H100 with default rates."""
    laid = lay(load_model("llama-3-8b"), Plan())
    return step_timer(laid, machine(load_system("H100-SXM")), Rates.default(), ENGINE)


def options(rate: float, requests: int, keep: int = 100_000) -> SimOptions:
    """Log-normal lengths at a rate."""
    return SimOptions(
        load=Load(
            arrivals=Poisson(rate_per_s=rate),
            input_tokens=LogNormal(median=500, sigma=0.8, high=6000),
            output_tokens=LogNormal(median=200, sigma=0.7, high=2000),
            requests=requests,
        ),
        engine=ENGINE,
        slo=SLO(ttft_s=1.0, tpot_s=0.05),
        keep_requests=keep,
    )


def bench_simulator() -> None:
    """Steps per minute, memory, search."""
    steps = timer()
    for rate in (2.0, 10.0, 40.0):
        wall, cpu = time.perf_counter(), time.process_time()
        result = simulate(options(rate, 4000), steps)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(
            f"simulator at {rate:g}/s: {result.steps} steps, busy "
            f"{result.replicas[0].utilisation:.0%}, {result.steps / cpu * 60 / 1e6:.2f} M steps a "
            f"minute of CPU, {result.steps / wall * 60 / 1e6:.2f} M a minute of wall time"
        )
    for requests in (2_000, 20_000):
        tracemalloc.start()
        simulate(options(10.0, requests, keep=1000), steps)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        print(f"simulator memory with {requests} requests: {peak / 1e6:.1f} MB at most")
    wall = time.perf_counter()
    found = max_rate(options(1.0, 2000), steps)
    print(
        f"search: {found.rate_per_s:.3g}/s after {len(found.probes)} probes of 2000 requests in "
        f"{time.perf_counter() - wall:.1f} s"
    )


def bench_generator(streams: int, rate: float, seconds: float) -> None:
    """Lag with many open streams."""
    tokens = 20
    gap_s = streams / rate / tokens
    command = [sys.executable, str(FAKE), "--gap", str(gap_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as fake:  # noqa: S603
        try:
            port = int((fake.stdout or sys.stdin).readline())
            load = Load(
                arrivals=Poisson(rate_per_s=rate),
                input_tokens=Fixed(tokens=128),
                output_tokens=Fixed(tokens=tokens),
                requests=int(rate * seconds),
            )
            cpu = time.process_time()
            log = generate(Target(url=f"http://127.0.0.1:{port}", model="tokens"), load)
            cpu = time.process_time() - cpu
        finally:
            fake.terminate()
    lags = np.quantile([outcome.lag_s for outcome in log.outcomes], [0.5, 0.99, 1.0]) * 1e3
    loop = np.quantile(log.loop_lag_s, [0.99, 1.0]) * 1e3
    good = sum(outcome.ok for outcome in log.outcomes)
    print(
        f"generator: {good}/{len(log.outcomes)} ok, {log.most_open} streams open at most, send lag "
        f"p50 {lags[0]:.2f} p99 {lags[1]:.2f} max {lags[2]:.2f} ms, loop lag p99 {loop[0]:.2f} "
        f"max {loop[1]:.2f} ms, {cpu / log.duration_s:.0%} of a core"
    )


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    said = parser.parse_args()
    bench_simulator()
    bench_generator(said.streams, said.rate, said.seconds)


if __name__ == "__main__":
    main()
