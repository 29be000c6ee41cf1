"""A whole profile: figures, saturation, server facts, records, comparison, and the full chain."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fake_server import METRICS, Background, FakeServer

from analyzer.errors import ConfigError, ServerFailed
from analyzer.records import Record
from analyzer.serving import AffineTimer
from analyzer.workload import SLO
from analyzer.workload_arrivals import (
    AllAtOnce,
    ClosedLoop,
    Fixed,
    Load,
    Poisson,
    Uniform,
)
from profilers.serving import ServeOptions, Sweep, Target, Timeouts, VllmServer, run_serve
from profilers.serving.compare import bench_arguments, side_by_side
from profilers.serving.engine_log import EngineStep, engine_steps
from profilers.serving.generator import RunLog
from profilers.serving.measures import summarise
from profilers.serving.outcome import Outcome
from profilers.serving.prometheus import parse, watched
from profilers.serving.random_model import SHAPES, write_model
from profilers.serving.saturation import judge_spans
from profilers.serving.server import attach, cache_labels, log_facts, started
from profilers.store import read

STEP = AffineTimer(step_s=0.008, token_s=2e-5, sequence_s=4e-4)


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    background = Background(step_s=0.008, token_s=2e-5, sequence_s=4e-4, seqs=8)
    yield background.server
    background.stop()


def outcome(number: int, **fields: object) -> Outcome:
    start = float(fields.pop("scheduled_s", number * 0.1))
    plain = {
        "number": number,
        "label": "ok",
        "scheduled_s": start,
        "sent_s": start + 0.001,
        "written_s": start + 0.002,
        "first_token_s": start + 0.1,
        "chunk_s": tuple(start + 0.1 + 0.01 * i for i in range(5)),
        "end_s": start + 0.15,
        "asked_input": 10,
        "asked_output": 5,
        "prompt_tokens": 10,
        "output_tokens": 5,
    }
    return Outcome(**{**plain, **fields})


def log_of(*outcomes: Outcome, **fields: object) -> RunLog:
    plain = {"outcomes": outcomes, "loop_lag_s": (0.0,) * 50, "most_open": 3, "duration_s": 1.0}
    return RunLog(**{**plain, **fields})


def test_figures_follow_their_definitions() -> None:
    good = [outcome(number) for number in range(100)]
    summary = summarise(log_of(*good), SLO(ttft_s=0.2, tpot_s=0.02))
    assert summary.duration_s == pytest.approx(9.9 + 0.15)
    assert summary.request_rate_per_s == pytest.approx(100 / 10.05)
    assert summary.output_tokens_per_s == pytest.approx(500 / 10.05)
    assert summary.from_scheduled.ttft.percentiles["p50"] == pytest.approx(0.1)
    assert summary.from_sent.ttft.mean == pytest.approx(0.099)
    assert summary.from_scheduled.e2e.mean == pytest.approx(0.14)
    assert summary.tpot.mean == pytest.approx(0.01)
    assert summary.itl.count == 400
    assert summary.client_queue.mean == pytest.approx(0.002)
    assert summary.goodput_per_s == pytest.approx(summary.request_rate_per_s)
    assert (summary.attainment, summary.tokens_per_chunk) == (1.0, 1.0)
    assert summary.invalid == ()
    assert summary.warnings == ()


def test_failures_count_against_goodput_and_are_shown_by_label() -> None:
    bad = outcome(99, label="http_error", detail="500: no", output_tokens=None, chunk_s=())
    slow = outcome(98, first_token_s=9.8 + 5, chunk_s=(9.8 + 5, 9.8 + 6), output_tokens=2)
    summary = summarise(log_of(*(outcome(n) for n in range(98)), slow, bad), SLO(ttft_s=0.2))
    assert summary.failures == {"http_error": 1}
    assert summary.first_details == {"http_error": "500: no"}
    assert summary.attainment == pytest.approx(0.98)
    assert summary.invalid == ()  # one in a hundred is not yet too many
    worse = summarise(log_of(*(outcome(n) for n in range(50)), bad))
    assert worse.invalid == ("1 of 51 requests failed",)


def test_a_generator_that_fell_behind_makes_the_run_invalid() -> None:
    late = [outcome(n, sent_s=n * 0.1 + 0.02) for n in range(60)]
    assert "fell behind" in summarise(log_of(*late)).invalid[0]
    slower = [outcome(n, sent_s=n * 0.11) for n in range(60)]
    assert any("9.09/s of the 10/s" in reason for reason in summarise(log_of(*slower)).invalid)


def test_what_the_server_does_not_count_is_not_made_up() -> None:
    blind = [outcome(n, output_tokens=None, prompt_tokens=None) for n in range(10)]
    summary = summarise(log_of(*blind))
    assert summary.tpot is None
    assert summary.output_tokens_per_s is None
    assert "10 answers came without usage" in summary.warnings[0]
    packed = [outcome(n, output_tokens=10, prompt_tokens=11) for n in range(10)]
    assert len(summarise(log_of(*packed)).warnings) == 2


def test_an_empty_or_interrupted_run_is_invalid() -> None:
    assert summarise(log_of()).invalid == ("no request succeeded",)
    assert "interrupted" in summarise(log_of(outcome(0), interrupted=True)).invalid[0]


@pytest.mark.parametrize(("rate", "saturated"), [(40.0, False), (85.0, False), (130.0, True)])
def test_saturation_is_told_from_a_queue_that_only_fluctuates(rate: float, saturated: bool) -> None:
    verdicts = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        starts = np.cumsum(rng.exponential(1 / rate, 600))
        end, ends = 0.0, []
        for start in starts:  # one server that takes 10 ms
            end = max(end, start) + 0.01
            ends.append(end)
        verdicts.append(judge_spans(list(zip(starts, ends, strict=True))).saturated)
    assert sum(verdicts) >= 19 if saturated else sum(verdicts) <= 2


def test_too_few_requests_have_no_verdict() -> None:
    assert judge_spans([(0.0, 1.0)] * 5) is None


def test_prometheus_pages_are_read_with_their_labels() -> None:
    page = METRICS % (3, 2, 77, 1000) + 'broken line\nx{a="b\\"c"} NaN\n'
    samples = parse(page)
    assert watched(samples)["vllm:num_requests_running"] == 3.0
    assert cache_labels(page)["num_gpu_blocks"] == "77"
    assert cache_labels("") == {}


def test_the_log_tells_what_the_endpoints_do_not() -> None:
    log = (
        "INFO Using FLASH_ATTN attention backend out of ...\n"
        "INFO GPU KV cache size: 87,296 tokens, Maximum concurrency ...\n"
        "INFO V1 LLM engine (v9) with config: model='m', dtype=torch.bfloat16, "
        "enforce_eager=True, enable_prefix_caching=False, x=1\n"
    )
    facts = log_facts(log)
    assert facts["attention_backend"] == "FLASH_ATTN"
    assert facts["kv_cache_tokens"] == "87,296"
    assert (facts["dtype"], facts["enable_prefix_caching"]) == ("torch.bfloat16", "False")
    assert "engine_config" not in facts


def test_an_engines_own_account_of_its_steps_is_read_back() -> None:
    said = (
        "INFO 11-26 17:56:44 [loggers.py:199] Engine 000: Iteration(%d): %d context requests, "
        "%d context tokens, %d generation requests, %d generation tokens, iteration elapsed time: "
        "12.88 ms, CPU KV cache usage: 1.6%%"
    )
    log = "\n".join((said % (7, 2, 300, 0, 0), "another line", said % (8, 0, 0, 2, 2)))
    first, second = engine_steps(log)
    assert first == EngineStep(7, 2, 300, 0, 0, pytest.approx(0.01288))
    assert (second.number, second.decode_tokens) == (8, 2)


def test_attaching_reads_the_facts_back(server: FakeServer) -> None:
    facts = attach(server.url, "engine").facts
    assert (facts.version, facts.max_model_tokens) == ("0.0-fake", 4096)
    assert (facts.kv_blocks, facts.block_tokens, facts.prefix_caching) == (4096, 16, False)
    with pytest.raises(ConfigError, match="does not serve 'nobody'"):
        attach(server.url, "nobody")
    with pytest.raises(ServerFailed, match="no answer"):
        attach("http://127.0.0.1:9", "m")


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    def how(python: str, ready_s: float = 20.0) -> VllmServer:
        return VllmServer(python=python, model="m", port=8991, ready_s=ready_s)

    script = tmp_path / "python"
    script.write_text("#!/bin/sh\necho no such model >&2\nexit 3\n")
    script.chmod(0o755)
    with (
        pytest.raises(ServerFailed, match=r"(?s)code 3.*no such model"),
        started(how(str(script)), "m"),
    ):
        pass
    with pytest.raises(ConfigError, match="cannot be started"), started(how("/nowhere"), "m"):
        pass
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    with (
        pytest.raises(ServerFailed, match=r"not ready in 0.6 s"),
        started(how(str(script), 0.6), "m"),
    ):
        pass


def test_started_servers_are_stopped_with_all_their_children(tmp_path: Path) -> None:
    here = Path(__file__).with_name("fake_server.py")
    script = tmp_path / "python"
    script.write_text(
        "#!/bin/sh\nsleep 300 & echo $! > $(dirname $0)/child\n"
        f"exec python3 {here} --port 8992 --step 0.001\n"
    )
    script.chmod(0o755)
    options = ServeOptions(
        target=Target(url="http://x", model="engine"),
        load=Load(arrivals=ClosedLoop(concurrency=2), requests=4, output_tokens=Fixed(tokens=3)),
        server=VllmServer(python=str(script), model="m", port=8992, stop_s=2.0),
    )
    report = run_serve(options)
    assert report.runs[0].summary.ok == 4
    child = int((tmp_path / "child").read_text())
    for _ in range(100):  # a killed process takes a moment to go
        if gone(child):
            return
        time.sleep(0.05)
    pytest.fail("a child of the server outlived it")


def gone(process: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return True


def test_a_run_becomes_a_record_without_secrets(server: FakeServer, tmp_path: Path) -> None:
    options = ServeOptions(
        target=Target(url=server.url, model="engine", api_key="sk-planted-secret-0123456789"),
        load=Load(
            arrivals=Poisson(rate_per_s=60.0),
            input_tokens=Fixed(tokens=20),
            output_tokens=Fixed(tokens=4),
            requests=30,
        ),
        scrape_s=0.1,
        store=str(tmp_path / "store"),
        hardware="fake",
    )
    report = run_serve(options)
    assert len(report.runs[0].server_readings) >= 2
    (entry,) = read(tmp_path / "store").entries
    record = entry.decode(Record)
    assert record.kind == "serving"
    assert set(record.metrics) == {"ttft_s", "tpot_s", "e2e_s", "output_tok_s", "request_rate_s"}
    assert record.scenario.arrival.kind == "poisson"
    assert record.scenario.arrival.rate_per_s == 60.0
    assert (record.scenario.input_tokens, record.scenario.output_tokens) == (
        pytest.approx(20.0),
        pytest.approx(4.0),
    )
    assert record.environment["server_kv_blocks"] == 4096
    assert len(record.samples["first_token_s"]) == 30
    assert b"planted" not in (tmp_path / "store" / "records.jsonl").read_bytes()


def test_a_hopeless_server_ends_the_profile(server: FakeServer) -> None:
    options = ServeOptions(
        target=Target(url=server.url, model="500"),
        load=Load(arrivals=AllAtOnce(), requests=4),
    )
    with pytest.raises(ServerFailed, match="no warm-up request succeeded: http_error"):
        run_serve(options)
    with pytest.raises(ConfigError, match="a sweep of rates needs arrivals"):
        run_serve(
            msgspec.structs.replace(
                options, target=Target(url=server.url, model="engine"), sweep=Sweep()
            )
        )


def test_options_refuse_nonsense() -> None:
    with pytest.raises(ConfigError, match="url must begin"):
        Target(url="localhost:8000", model="m")
    with pytest.raises(ConfigError, match=r"timeouts.total_s"):
        Timeouts(total_s=0.0)
    with pytest.raises(ConfigError, match="vocabulary"):
        Target(url="http://x", model="m", vocabulary=100)


def test_vllm_bench_gets_the_same_load_in_its_own_words() -> None:
    options = ServeOptions(
        target=Target(url="http://h:1", model="m"),
        load=Load(
            arrivals=ClosedLoop(concurrency=3),
            input_tokens=Fixed(tokens=64),
            output_tokens=Fixed(tokens=16),
            requests=40,
        ),
        server=VllmServer(python="p", model="/models/x"),
    )
    words = " ".join(bench_arguments(options))
    for wanted in (
        "--base-url http://h:1",
        "--tokenizer /models/x",
        "--random-input-len 64",
        "--random-output-len 16",
        "--num-prompts 40",
        "--max-concurrency 3",
        "--ignore-eos",
    ):
        assert wanted in words
    drawn = msgspec.structs.replace(options.load, input_tokens=Uniform(low=1, high=9))
    with pytest.raises(ConfigError, match="constant prompt"):
        bench_arguments(msgspec.structs.replace(options, load=drawn))


def test_shared_metrics_are_compared_by_the_other_tools_definition() -> None:
    ours = summarise(log_of(*(outcome(n) for n in range(100))))
    theirs = {
        "mean_ttft_ms": 99.0,
        "median_tpot_ms": 20.0,
        "request_throughput": ours.request_rate_per_s,
        "unknown": 3.0,
    }
    shared = {each.name: each for each in side_by_side(ours, theirs)}
    assert set(shared) == {"mean ttft", "median tpot", "request_throughput"}
    assert shared["mean ttft"].difference == pytest.approx(0.0)
    assert shared["median tpot"].difference == pytest.approx(-0.5)


def test_a_random_model_is_complete(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", SHAPES["tiny"])
    config = json.loads((folder / "config.json").read_text())
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    assert config["num_hidden_layers"] == 4
    assert len(tokenizer["model"]["vocab"]) == config["vocab_size"]
