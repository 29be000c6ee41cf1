"""The chain of reports/serving_chain.py against a real vLLM: one command, start to errors.

A server with a random-weight model (made on the spot, or any folder with a config.json) is started
with limits that are given, so that they are known; its KV blocks are read back.
"""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import ConfigError, DataError
from analyzer.serving import EngineOptions
from analyzer.serving.timers import StepTimer
from analyzer.workload_arrivals import ClosedLoop, Uniform
from calibration.serving_fit import BuildTimer, Knob
from profilers.serving import ServeOptions, ServeReport, Session, Target, VllmServer, session
from profilers.serving.cores import apart
from profilers.serving.random_model import SHAPES, Shape, write_model
from profilers.serving.run import store_runs
from reports.serving_chain import WITHIN, Validation, analyse
from reports.serving_measure import Measured, Mix, Schedule, measure, static_load

Tell = Callable[[str], None]
LIMITS = EngineOptions(
    kv_blocks=1,
    block_tokens=128,
    max_batched_tokens=2048,
    max_sequences=32,
    max_model_tokens=2048,
    prefix_caching=False,
)
"""What the server is told; the number of blocks is read back from it."""


class Asked(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One validation."""

    python: str
    """Interpreter of vLLM's environment."""
    shape: str = "0.1b"
    seconds: float = 60.0
    """Of each rate, over all rounds."""
    rounds: int = 4
    longest: int = 512
    """Longest prompt in tokens; answers have 16 to 64."""
    port: int = 8123


class Kept(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was measured, with all that is needed to analyse it again."""

    asked: Asked
    engine: EngineOptions
    measured: Measured


def measure_vllm(asked: Asked, tell: Tell) -> Kept:
    """Start the server, run every load."""
    mix = Mix(Uniform(low=asked.longest // 8, high=asked.longest), Uniform(low=16, high=64))
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / asked.shape, _shape(asked.shape))
        with session(_options(asked, model)) as opened, apart(opened.process_group) as moved:
            tell(f"{moved} threads of the server kept off its worker's core")
            tell(f"vLLM {opened.facts.version}, {opened.facts.kv_blocks} KV blocks")
            engine = _read_back(opened)
            plan = Schedule(seconds=asked.seconds, rounds=asked.rounds)
            measured = measure(opened, engine, mix, plan, tell)
    return Kept(asked=asked, engine=engine, measured=measured)


def store_kept(kept: Kept, store: str, hardware: str) -> None:
    """Append every run of a validation to the common store."""
    runs = tuple(one.run for taken in kept.measured.runs.values() for one in taken)
    found = ServeReport(facts=kept.measured.facts, runs=runs, saturation_rate_per_s=None)
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / kept.asked.shape, _shape(kept.asked.shape))
        options = _options(kept.asked, model)
        store_runs(msgspec.structs.replace(options, store=store, hardware=hardware), found)


def analyse_vllm(kept: Kept, tell: Tell) -> Validation:
    """Fit on static runs and low rates; predict the others."""
    with tempfile.TemporaryDirectory() as folder:
        model = write_model(Path(folder) / kept.asked.shape, _shape(kept.asked.shape))
        build = analyzer_timer(model, kept.engine)
    return analyse(kept.measured, kept.engine, build, vllm_knobs(), tell)


def kept_text(kept: Kept) -> str:
    """For `read_kept`: times to the microsecond."""
    return json.dumps(_rounded(msgspec.to_builtins(kept)), separators=(",", ":"))


def _rounded(found: Any) -> Any:
    if isinstance(found, float):
        return round(found, 6)
    if isinstance(found, dict):
        return {name: _rounded(each) for name, each in found.items()}
    if isinstance(found, list | tuple):
        return [_rounded(each) for each in found]
    return found


def read_kept(path: str) -> Kept:
    """What an earlier run kept, plain or as .gz."""
    try:
        content = Path(path).read_bytes()
        if path.endswith(".gz"):
            content = gzip.decompress(content)
        return msgspec.json.decode(content, type=Kept)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError as error:
        raise DataError(f"{path}: not a kept validation: {error}") from None


def passed(found: Validation) -> bool:
    """Every held-out figure within 10 %, and no run in doubt."""
    return not found.invalid and all(abs(row.error) <= WITHIN for row in found.rows)


def document(found: Validation) -> dict[str, Any]:
    """For programs."""
    return {
        "rates": found.fit.values,
        "fitted": found.fit.residuals,
        "held_out": [{**row._asdict(), "error": row.error} for row in found.rows],
        "spread": [row._asdict() for row in found.spreads],
        "doubts": {name: list(reasons) for name, reasons in found.invalid.items()},
        "drift": found.drift,
        "drift_of_prompts": found.drift_of_prompts,
        "within": WITHIN,
        "passed": passed(found),
    }


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


def vllm_server(python: str, model: Path, port: int) -> VllmServer:
    """A CPU server whose limits are known because they are given."""
    flags = [
        "--load-format", "dummy",
        "--dtype", "bfloat16",
        "--max-model-len", str(LIMITS.max_model_tokens),
        "--max-num-seqs", str(LIMITS.max_sequences),
        "--max-num-batched-tokens", str(LIMITS.max_batched_tokens),
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


def _shape(name: str) -> Shape:
    if name not in SHAPES:
        raise ConfigError(f"shape {name!r} is not known; use one of {', '.join(SHAPES)}")
    return SHAPES[name]


def _options(asked: Asked, model: Path) -> ServeOptions:
    return ServeOptions(
        target=Target(url="http://127.0.0.1", model="m", vocabulary=_shape(asked.shape).vocabulary),
        load=static_load(ClosedLoop(concurrency=2), asked.longest, 16, 8),
        server=vllm_server(asked.python, model, asked.port),
        warmup_requests=8,
    )


def _read_back(opened: Session) -> EngineOptions:
    """The blocks that the server really has; it keeps one for itself."""
    facts = opened.facts
    if facts.kv_blocks is None or facts.block_tokens is None:
        raise ConfigError("the server does not say how many KV blocks it has")
    return msgspec.structs.replace(
        LIMITS, kv_blocks=facts.kv_blocks - 1, block_tokens=facts.block_tokens
    )
