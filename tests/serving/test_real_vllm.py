"""The whole road against a real vLLM server on this CPU, with small models made on the spot.

Runs only where PLUMBLINE_VLLM_PYTHON names the interpreter of an environment that holds vLLM
(`make test-serving` makes one). Counts and order are judged, never the clock: how near simulated
times come is the business of `plumbline profile serve --validate` on a quiet machine.
"""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import msgspec
import pytest

import plumbline
from analyzer.records import Record
from analyzer.serving import AffineTimer, EngineOptions, SimOptions, simulate
from analyzer.workload_arrivals import AllAtOnce, ClosedLoop, Fixed, Load, Poisson, Turns, Uniform
from profilers.serving import ServeOptions, Session, Target, VllmServer, run_serve, session
from profilers.serving.engine_log import FLAG, EngineStep, engine_steps
from profilers.serving.prometheus import fetch, parse, watched
from profilers.serving.random_model import SHAPES, write_model
from profilers.store import read

PYTHON = os.environ.get("PLUMBLINE_VLLM_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="PLUMBLINE_VLLM_PYTHON is not set")
PATIENCE_S = 20.0
BUDGET, SEQUENCES = 128, 4


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def options(folder: Path, load: Load, flags: str = "", **more: object) -> ServeOptions:
    shape = SHAPES["tiny"]
    model = write_model(folder / "tiny", shape)
    flags = f"--load-format dummy --dtype bfloat16 --max-model-len 1024 --enforce-eager {flags}"
    return ServeOptions(
        target=Target(url="http://127.0.0.1", model="m", vocabulary=shape.vocabulary),
        load=load,
        server=VllmServer(
            python=PYTHON,
            model=str(model),
            port=free_port(),
            flags=tuple(flags.split()),
            environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
        ),
        **more,
    )


def closed(users: int, prompt: int, answer: int, requests: int) -> Load:
    return Load(
        arrivals=ClosedLoop(concurrency=users),
        input_tokens=Fixed(tokens=prompt),
        output_tokens=Fixed(tokens=answer),
        requests=requests,
    )


def counters(opened: Session) -> dict[str, float]:
    return watched(parse(fetch(opened.options.target.url) or ""))


def grown(opened: Session, before: dict[str, float], name: str, wanted: float) -> float:
    """How much a counter has grown; the server books a little later than it answers."""
    end = time.monotonic() + PATIENCE_S
    while True:
        found = counters(opened)[name] - before[name]
        if found >= wanted or time.monotonic() > end:
            return found
        time.sleep(0.1)


def logged_steps(opened: Session, tokens: int) -> list[EngineStep]:
    """The engine's steps once it has logged `tokens` prompt and answer tokens in all."""
    end = time.monotonic() + PATIENCE_S
    while True:
        steps = list(engine_steps(Path(opened.server_log).read_text(errors="replace")))
        done = sum(step.prefill_tokens + step.decode_tokens for step in steps)
        if done >= tokens or time.monotonic() > end:
            return steps
        time.sleep(0.1)


def test_a_real_server_is_profiled_recorded_and_compared(tmp_path: Path) -> None:
    store = tmp_path / "store"
    report = run_serve(
        options(
            tmp_path,
            closed(2, 64, 16, 20),
            store=str(store),
            compare="vllm-bench",
            scrape_s=0.2,
        )
    )
    facts, (run,) = report.facts, report.runs
    assert facts.version
    assert facts.kv_blocks > 1
    assert facts.block_tokens > 0
    assert facts.max_model_tokens == 1024
    assert facts.more["dtype"] == "torch.bfloat16"
    assert (run.summary.ok, run.summary.failures) == (20, {})
    # The server counted what was asked for, to the token.
    assert {outcome.prompt_tokens for outcome in run.log.outcomes} == {64}
    assert {outcome.output_tokens for outcome in run.log.outcomes} == {16}
    names = {each.name for each in report.comparison.metrics}
    assert {"mean ttft", "mean e2el", "request_throughput", "output_throughput"} <= names
    assert all(each.theirs > 0 for each in report.comparison.metrics)
    (entry,) = read(store).entries
    assert entry.decode(Record).scenario.engine == "vllm"


def test_conversations_hit_the_real_prefix_cache(tmp_path: Path) -> None:
    talk = Load(
        arrivals=Poisson(rate_per_s=2.0),
        input_tokens=Fixed(tokens=200),
        output_tokens=Fixed(tokens=60),
        requests=9,
        turns=Turns(count=3),
    )
    with session(options(tmp_path, talk)) as opened:
        before = counters(opened)
        run = opened.run(talk)
        # Second and third turns begin with one and two whole conversations' worth of blocks.
        hits = grown(opened, before, "vllm:prefix_cache_hits_total", 3 * (256 + 512))
        block_tokens = opened.facts.block_tokens
    assert [o.prompt_tokens for o in run.log.outcomes] == [200, 460, 720] * 3
    assert run.summary.failures == {}
    engine = EngineOptions(kv_blocks=4096, block_tokens=block_tokens, max_batched_tokens=2048)
    simulated = simulate(SimOptions(load=talk, engine=engine), AffineTimer(step_s=1e-3))
    assert hits == simulated.cached_tokens


def test_a_lone_users_steps_are_the_simulated_ones(tmp_path: Path) -> None:
    """Chunks of prompts and decoding steps, one by one, in their order."""
    load = closed(1, 300, 7, 5)
    flags = f"--no-enable-prefix-caching --max-num-batched-tokens {BUDGET} {FLAG}"
    asked = options(tmp_path, load, f"{flags} --max-num-seqs {SEQUENCES}", warmup_requests=0)
    with session(asked) as opened:
        before = counters(opened)
        opened.run(load)
        steps = logged_steps(opened, 5 * (300 + 6))
        assert grown(opened, before, "vllm:prompt_tokens_total", 1500) == 1500
        assert grown(opened, before, "vllm:generation_tokens_total", 35) == 35
    engine = EngineOptions(
        kv_blocks=1000,
        max_batched_tokens=BUDGET,
        max_sequences=SEQUENCES,
        prefix_caching=False,
    )
    found = simulate(
        SimOptions(load=load, engine=engine, keep_steps=1000), AffineTimer(step_s=1e-3)
    )
    real = [(step.prefill_tokens, step.decode_tokens) for step in steps]
    assert real == [(row.prefill_tokens, row.decode_batch) for row in found.step_rows]


def test_a_crowds_steps_keep_the_limits_and_the_tokens(tmp_path: Path) -> None:
    """When all come at once, order depends on the wire; budgets, seats and sums do not."""
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=Uniform(low=20, high=400),
        output_tokens=Uniform(low=2, high=20),
        requests=24,
        seed=3,
    )
    flags = f"--no-enable-prefix-caching --max-num-batched-tokens {BUDGET} {FLAG}"
    asked = options(tmp_path, load, f"{flags} --max-num-seqs {SEQUENCES}", warmup_requests=0)
    with session(asked) as opened:
        run = opened.run(load)
        prompts = sum(outcome.prompt_tokens for outcome in run.log.outcomes)
        answers = sum(outcome.output_tokens for outcome in run.log.outcomes)
        steps = logged_steps(opened, prompts + answers - 24)
    assert run.summary.failures == {}
    engine = EngineOptions(
        kv_blocks=1000,
        max_batched_tokens=BUDGET,
        max_sequences=SEQUENCES,
        prefix_caching=False,
    )
    found = simulate(
        SimOptions(load=load, engine=engine, keep_steps=10_000), AffineTimer(step_s=1e-3)
    )
    rows = found.step_rows
    assert sum(step.prefill_tokens for step in steps) == prompts == found.prefill_tokens
    assert sum(step.decode_tokens for step in steps) == answers - 24
    assert sum(row.decode_batch for row in rows) == answers - 24
    for step in steps:
        assert step.prefill_tokens + step.decode_tokens <= BUDGET
        assert step.prefill_requests + step.decode_requests <= SEQUENCES
    # Requests that trickle in cost the real engine a few steps more, never many.
    assert len(rows) * 0.9 <= len(steps) <= len(rows) * 1.3


def test_the_validation_runs_from_end_to_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept.json"
    words = f"profile serve --validate --vllm {PYTHON} --random-model small --rounds 1 --json"
    code = plumbline.main(
        [*words.split(), "--seconds", "2", "--port", str(free_port()), "--keep", str(kept)]
    )
    told = capsys.readouterr()
    assert code in (0, 1), told.err  # 1: beyond 10 %, which a busy machine makes it
    found = json.loads(told.out)
    assert {row["metric"] for row in found["held_out"]} >= {"ttft_s", "output_tok_s"}
    assert all(row["measured"] > 0 and row["simulated"] > 0 for row in found["held_out"])
    measured = msgspec.json.decode(kept.read_bytes())["measured"]["runs"]
    runs = [one["run"] for taken in measured.values() for one in taken]
    assert all(run["summary"]["failures"] == {} for run in runs)
    assert all(run["summary"]["ok"] == run["load"]["requests"] for run in runs)
