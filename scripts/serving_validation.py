"""Measure a server, calibrate on its light loads, simulate the heavy ones, print the errors.

    python scripts/serving_validation.py --python VENV/bin/python [--shape 0.1b] [--seconds 60]

starts a vLLM server with a random-weight model made on the spot; reports/serving_chain.py says what
is measured, what the fit may see and what is predicted.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from analyzer.serving import EngineOptions
from analyzer.serving.timers import StepTimer
from analyzer.workload_arrivals import ClosedLoop, Uniform
from calibration.serving_fit import BuildTimer, Knob
from profilers.serving import ServeOptions, Session, Target, VllmServer, session
from profilers.serving.random_model import SHAPES, Shape, write_model
from reports.serving_chain import BEYOND_SHARE, WITHIN, Mix, Validation, chain, report, static_load

BUSY = 0.7


def vllm_knobs() -> tuple[Knob, ...]:
    """Rates of a CPU server, with room on both sides."""
    return (
        Knob("gemm_eff_16", 0.4, 0.02, 1.0),
        Knob("gemm_half", 4.0, 0.05, 512.0),
        Knob("mem_eff", 0.6, 0.02, 1.0),
        Knob("attention_eff", 0.1, 0.002, 1.0),
        Knob("kv_eff", 0.2, 0.002, 1.0),
        Knob("sharpness", 4.0, 1.01, 30.0),
        Knob("step_s", 2e-3, 1e-5, 0.1),
        Knob("sequence_s", 1e-4, 1e-7, 0.02),
        Knob("request_s", 5e-3, 1e-5, 0.2),
    )


def analyzer_timer(model: Path, engine: EngineOptions) -> BuildTimer:
    """Step times of this machine from the analyzer, for given rates."""
    from analyzer.detect import detect_system
    from analyzer.models_catalog import load
    from analyzer.phases import lay
    from analyzer.plan import Plan
    from analyzer.serving.steps import step_timer
    from analyzer.timing.machine import machine
    from analyzer.timing.rates import Rates

    laid = lay(load(model / "config.json"), Plan())
    on = machine(detect_system().system)

    def build(values: dict[str, float]) -> StepTimer:
        rates = {name: value for name, value in values.items() if name != "request_s"}
        chosen = msgspec.structs.replace(Rates.default(), **rates)
        return step_timer(laid, on, chosen, engine)

    return build


def vllm_server(python: str, model: Path, port: int, engine: EngineOptions) -> VllmServer:
    """A CPU server whose limits are known because they are given."""
    flags = [
        "--load-format", "dummy",
        "--dtype", "bfloat16",
        "--max-model-len", str(engine.max_model_tokens),
        "--max-num-seqs", str(engine.max_sequences),
        "--max-num-batched-tokens", str(engine.max_batched_tokens),
        "--enforce-eager",
        "--no-enable-prefix-caching",
    ]  # fmt: skip
    return VllmServer(
        python=python,
        model=str(model),
        port=port,
        flags=tuple(flags),
        environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
    )


def real(arguments: argparse.Namespace, tell: Callable[[str], None]) -> Validation:
    """The chain against vLLM."""
    shape: Shape = SHAPES[arguments.shape]
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / arguments.shape, shape)
        engine = EngineOptions(
            kv_blocks=1,
            block_tokens=128,
            max_batched_tokens=2048,
            max_sequences=32,
            max_model_tokens=2048,
            prefix_caching=False,
        )
        longest = arguments.longest
        mix = Mix(Uniform(low=longest // 8, high=longest), Uniform(low=16, high=64))
        options = ServeOptions(
            target=Target(url="http://127.0.0.1", model="m", vocabulary=shape.vocabulary),
            load=static_load(ClosedLoop(concurrency=2), longest, 16, 8),
            server=vllm_server(arguments.python, model, arguments.port, engine),
            warmup_requests=8,
        )
        build = analyzer_timer(model, engine)
        with session(options) as opened:
            _use_last_core()
            tell(f"vLLM {opened.facts.version}: {opened.facts.as_environment()}")
            engine = _read_back(engine, opened)
            knobs = vllm_knobs()
            return chain(
                opened, engine, mix, build, knobs, arguments.seconds, arguments.repeats, tell
            )


def _read_back(engine: EngineOptions, opened: Session) -> EngineOptions:
    """The blocks that the server really has; it keeps one for itself."""
    facts = opened.facts
    if facts.kv_blocks is None or facts.block_tokens is None:
        raise SystemExit("the server does not say how many KV blocks it has")
    return msgspec.structs.replace(
        engine, kv_blocks=facts.kv_blocks - 1, block_tokens=facts.block_tokens
    )


def _use_last_core() -> None:
    """vLLM binds its worker to the first cores; the load generator stays off them."""
    cores = os.sched_getaffinity(0)
    if len(cores) > 1:
        os.sched_setaffinity(0, {max(cores)})


def main() -> int:
    """Exit code 0 if every held-out figure is within 10 %, else 1."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", required=True, help="interpreter of vLLM's environment")
    parser.add_argument("--shape", choices=tuple(SHAPES), default="0.1b")
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each rate's run")
    parser.add_argument("--repeats", type=int, default=5, help="requests of each lone prompt")
    parser.add_argument("--longest", type=int, default=512, help="longest prompt in tokens")
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--out", type=Path, help="write the figures as JSON too")
    parser.add_argument("--report-only", action="store_true", help="exit 0 whatever the errors")
    arguments = parser.parse_args()
    load = os.getloadavg()[0]
    if load > BUSY:
        print(f"the machine is busy (load {load:.1f}): expect errors that are not the simulator's")
    found = real(arguments, lambda line: print(line, flush=True))
    print(report(found))
    if arguments.out is not None:
        figures = {
            "rates": found.fit.values,
            "fitted": found.fit.residuals,
            "held_out": [{**row._asdict(), "error": row.error} for row in found.rows],
        }
        arguments.out.write_text(json.dumps(figures, indent=1))
    good = all(abs(row.error) <= WITHIN for row in found.rows) and not found.invalid.keys() - {
        f"rate {BEYOND_SHARE:g}"
    }
    return 0 if good or arguments.report_only else 1


if __name__ == "__main__":
    sys.exit(main())
