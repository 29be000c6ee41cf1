"""Measure a server, calibrate on its light loads, simulate the heavy ones, print the errors.

    python scripts/serving_validation.py --python VENV/bin/python [--shape 0.1b] [--seconds 60]

starts a vLLM server with a random-weight model made on the spot. Static runs (lone prompts, fixed
batches) and two low rates are all that the fit sees; capacity is estimated from an offline run.
Rates nearer to saturation, and one beyond it, are then predicted and compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.serving import EngineOptions, SimResult
from analyzer.serving.timers import StepTimer
from analyzer.workload_arrivals import AllAtOnce, ClosedLoop, Fixed, Load, Poisson, Uniform
from calibration.serving_fit import (
    BuildTimer,
    Knob,
    Observed,
    ServingFit,
    fit_serving,
    medians_of,
    simulate_load,
    with_request_s,
)
from profilers.serving import ServeOptions, ServeRun, Session, Target, VllmServer, session
from profilers.serving.random_model import SHAPES, Shape, write_model
from profilers.serving.run import progress_line
from profilers.serving.saturation import judge_spans

LOW_SHARES = (0.2, 0.35)
HELD_OUT_SHARES = (0.5, 0.65, 0.8, 0.9)
BEYOND_SHARE = 1.4
WITHIN = 0.10
BUSY = 0.7


class Mix(NamedTuple):
    """The lengths that users send."""

    input_tokens: Uniform
    output_tokens: Uniform


class Row(NamedTuple):
    """One held-out figure."""

    run: str
    metric: str
    measured: float
    simulated: float

    @property
    def error(self) -> float:
        """Simulated over measured, less one."""
        return self.simulated / self.measured - 1.0


class Validation(NamedTuple):
    """Everything that the chain found."""

    fit: ServingFit
    rows: list[Row]
    engine: EngineOptions
    invalid: dict[str, tuple[str, ...]]


def static_loads(longest: int, repeats: int) -> Iterator[tuple[str, Load]]:
    """Lone prompts of rising length, then batches that start together, then a long context."""
    for tokens in (16, 64, 256, longest):
        yield f"lone prompt {tokens}", _load(ClosedLoop(concurrency=1), tokens, 8, repeats)
    for batch in (2, 4, 8, 16, 32):
        yield f"batch {batch}", _load(AllAtOnce(), 16, 24, batch)
    yield "long context", _load(ClosedLoop(concurrency=4), longest, 24, 8)


def _load(arrivals: ClosedLoop | AllAtOnce, prompt: int, answer: int, requests: int) -> Load:
    return Load(
        arrivals=arrivals,
        input_tokens=Fixed(tokens=prompt),
        output_tokens=Fixed(tokens=answer),
        requests=requests,
        seed=prompt + requests,
    )


def offline_load(mix: Mix, requests: int) -> Load:
    """All at once: what comes out per second is the capacity."""
    return Load(
        arrivals=AllAtOnce(),
        input_tokens=mix.input_tokens,
        output_tokens=mix.output_tokens,
        requests=requests,
        seed=77,
    )


def open_load(mix: Mix, rate: float, seconds: float, seed: int) -> Load:
    """Poisson arrivals of the mix."""
    return Load(
        arrivals=Poisson(rate_per_s=rate),
        input_tokens=mix.input_tokens,
        output_tokens=mix.output_tokens,
        requests=max(int(rate * seconds), 40),
        seed=seed,
    )


def chain(
    opened: Session,
    engine: EngineOptions,
    mix: Mix,
    build: BuildTimer,
    knobs: tuple[Knob, ...],
    seconds: float,
    repeats: int = 5,
    tell: Callable[[str], None] = lambda line: None,
) -> Validation:
    """Measure, fit, predict."""
    invalid: dict[str, tuple[str, ...]] = {}

    def run(name: str, load: Load) -> ServeRun:
        done = opened.run(load)
        tell(f"{name}: {progress_line(done)}")
        if done.summary.invalid:
            invalid[name] = done.summary.invalid
        return done

    observed = [
        _observed(name, run(name, load))
        for name, load in static_loads(mix.input_tokens.high, repeats)
    ]
    offline = run("offline", offline_load(mix, 4 * engine.max_sequences))
    capacity = offline.summary.request_rate_per_s
    tell(f"capacity of about {capacity:.3g} requests/s")
    for place, share in enumerate(LOW_SHARES):
        done = run(f"rate {share:g}", open_load(mix, share * capacity, seconds, place))
        observed.append(_observed(f"rate {share:g}", done))
    held_out = [
        (
            f"rate {share:g}",
            run(f"rate {share:g}", open_load(mix, share * capacity, seconds, place)),
        )
        for place, share in enumerate((*HELD_OUT_SHARES, BEYOND_SHARE), 10)
    ]
    fitted = fit_serving(observed, engine, build, knobs)
    tell(f"fitted on {len(observed)} runs to {fitted.error:.1%}: {_shown(fitted.values)}")
    timer = build(fitted.values)
    engine = with_request_s(engine, fitted.values.get("request_s", 0.0))
    rows = [row for name, done in held_out for row in compare(name, done, engine, timer)]
    return Validation(fitted, rows, engine, invalid)


def compare(name: str, done: ServeRun, engine: EngineOptions, timer: StepTimer) -> list[Row]:
    """Held-out figures of one run: latencies below saturation, the rate that it sustains above."""
    simulated = simulate_load(done.load, engine, timer)
    verdict = done.summary.saturation
    if verdict is not None and verdict.saturated:
        theirs = judge_spans([(each.arrival_s, each.end_s) for each in simulated.request_times])
        ended = theirs.completed_per_s if theirs else simulated.request_rate_per_s
        return [Row(name, "saturation rate", verdict.completed_per_s, ended)]
    measured = _medians(done)
    medians = medians_of(simulated)
    rows = [Row(name, metric, measured[metric], medians[metric]) for metric in measured]
    tokens = done.summary.output_tokens_per_s
    if tokens:
        rows.append(Row(name, "output_tok_s", tokens, _tokens_per_s(simulated)))
    return rows


def _tokens_per_s(result: SimResult) -> float:
    """As the profiler counts: from the first arrival to the last end."""
    times = result.request_times
    span = max(each.end_s for each in times) - min(each.arrival_s for each in times)
    return sum(each.output_tokens for each in times) / span


def _observed(name: str, done: ServeRun) -> Observed:
    """What the fit may see of a run. Of a batch that starts together only TPOT: its first steps
    depend on how the requests trickle in."""
    medians = _medians(done)
    if isinstance(done.load.arrivals, AllAtOnce):
        medians.pop("ttft_s")
    return Observed(name, done.load, medians)


def _medians(done: ServeRun) -> dict[str, float]:
    good = [outcome for outcome in done.log.outcomes if outcome.ok]
    ttfts = [one for outcome in good if (one := outcome.ttft_s()) is not None]
    tpots = [outcome.tpot_s for outcome in good if outcome.tpot_s is not None]
    return {"ttft_s": float(np.median(ttfts)), "tpot_s": float(np.median(tpots))}


def _shown(values: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in values.items())


def report(found: Validation) -> str:
    """A table of the held-out figures."""
    lines = [f"{'run':<12}{'figure':<18}{'measured':>12}{'simulated':>12}{'error':>9}"]
    for row in found.rows:
        verdict = "" if abs(row.error) <= WITHIN else "  beyond 10 %"
        lines.append(
            f"{row.run:<12}{row.metric:<18}{row.measured:>12.5g}{row.simulated:>12.5g}"
            f"{row.error:>+9.1%}{verdict}"
        )
    for name, reasons in found.invalid.items():
        lines.append(f"{name}: {'; '.join(reasons)}")
    return "\n".join(lines)


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
            load=_load(ClosedLoop(concurrency=2), longest, 16, 8),
            server=vllm_server(arguments.python, model, arguments.port, engine),
            warmup_requests=8,
        )
        with session(options) as opened:
            _use_last_core()
            tell(f"vLLM {opened.facts.version}: {opened.facts.as_environment()}")
            engine = _read_back(engine, opened)
            build = analyzer_timer(model, engine)
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
