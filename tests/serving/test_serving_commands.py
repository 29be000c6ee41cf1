"""`plumbline simulate` and `plumbline profile serve`, as a user would type them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_server import Background, FakeServer

from plumbline import main
from profilers.store import read

MODEL = "llama-3.1-8b"
BASE = ["simulate", "--model", MODEL, "--system", "RTX4090", "--max-model-len", "8192"]
TRACE = """arrival_time_s,input_tokens,output_tokens
0.0,1000,100
0.05,30,20
0.5,4000,1
0.5,9000,50
"""


@pytest.fixture(scope="module")
def server() -> Iterator[FakeServer]:
    background = Background(step_s=0.002, token_s=1e-6, sequence_s=1e-5, seqs=8)
    yield background.server
    background.stop()


def said(words: list[str], capsys: pytest.CaptureFixture[str]) -> dict:
    assert main([*words, "--json"]) == 0, capsys.readouterr().err
    document: dict = json.loads(capsys.readouterr().out.splitlines()[-1])
    return document


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as lines:
        return list(csv.DictReader(lines))


def test_a_trace_goes_in_and_every_requests_times_come_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, out = tmp_path / "trace.csv", tmp_path / "times.csv"
    trace.write_text(TRACE)
    words = [*BASE, "--trace", str(trace), "--requests-out", str(out), "--kv-blocks", "2570"]
    words += ["--max-num-batched-tokens", "2048", "--max-num-seqs", "256"]
    document = said(words, capsys)
    found = rows(out)
    assert [row["input_tokens"] for row in found] == ["1000", "30", "4000", "9000"]
    assert [row["status"] for row in found] == ["ok", "ok", "ok", "refused"]
    assert found[3]["ttft_s"] == ""
    assert [row["arrival_s"] for row in found] == ["0", "0.05", "0.5", "0.5"]
    # One token has no time per token; the others' add up to the end.
    assert found[2]["tpot_s"] == ""
    first = found[0]
    assert float(first["e2e_s"]) == pytest.approx(
        float(first["ttft_s"]) + 99 * float(first["tpot_s"]), rel=1e-6
    )
    ends = [float(row["ttft_s"]) for row in found[:3]]
    assert document["ttft"]["mean"] == pytest.approx(sum(ends) / 3, rel=1e-6)
    assert (document["finished"], document["refused"]) == (3, 1)
    assert document["engine"]["kv_blocks"] == 2570


def test_json_lines_with_other_names_are_the_same_requests(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace, lines = tmp_path / "trace.csv", tmp_path / "trace.jsonl"
    trace.write_text(TRACE)
    with lines.open("w") as stream:
        for row in csv.DictReader(TRACE.splitlines()):
            arrival_ns = float(row["arrival_time_s"]) * 1e9
            sizes = {
                "input_toks": int(row["input_tokens"]),
                "output_toks": int(row["output_tokens"]),
            }
            stream.write(json.dumps({**sizes, "arrival_time_ns": arrival_ns}) + "\n")
    documents = [said([*BASE, "--trace", str(path)], capsys) for path in (trace, lines)]
    for document in documents:
        document.pop("load")
    assert documents[0] == documents[1]


def test_the_same_words_give_the_same_bytes_and_another_seed_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outs = []
    for number, seed in enumerate(("1", "1", "2")):
        out, line = tmp_path / f"{number}.csv", tmp_path / f"{number}-line.csv"
        words = [*BASE, "--rate", "3", "--input", "lognormal:300:0.8", "--output", "10-80"]
        words += ["--requests", "80", "--seed", seed]
        said([*words, "--requests-out", str(out), "--timeline-out", str(line)], capsys)
        outs.append(out.read_bytes() + line.read_bytes())
    assert outs[0] == outs[1] != outs[2]


def test_memory_is_filled_as_far_as_it_was_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    words = [*BASE, "--rate", "1", "--requests", "5"]
    blocks = {
        share: said([*words, "--gpu-memory-utilization", share], capsys)["engine"]["kv_blocks"]
        for share in ("0.8", "0.9")
    }
    # A tenth of 24,564 MiB in blocks of 16 tokens of 131,072 bytes.
    assert blocks["0.9"] - blocks["0.8"] == pytest.approx(24_564 / 10 / 2, abs=1)
    assert blocks["0.9"] * 2 * 2**20 + 16.06e9 < 0.9 * 24_564 * 2**20


def test_the_highest_rate_keeps_the_promises_and_more_does_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = [*BASE, "--requests", "400", "--slo", "ttft=1,tpot=0.04"]
    found = said([*words, "--rate", "1", "--highest"], capsys)["highest_rate"]
    assert 0 < found["rate_per_s"] < found["failed_rate_per_s"]
    kept = said([*words, "--rate", str(found["rate_per_s"])], capsys)
    assert kept["attainment"] >= 0.99
    beyond = said([*words, "--rate", str(found["failed_rate_per_s"])], capsys)
    assert beyond["attainment"] < 0.99


def test_replicas_of_data_parallel_groups_have_queues_of_their_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["simulate", "--model", "qwen3-30b-a3b", "--system", "RTXPRO6000", "--rate", "4"]
    words += ["--requests", "50", "--tp", "2", "--ep", "2", "--attention-dp", "2"]
    document = said([*words, "--max-model-len", "8192"], capsys)
    assert [each["index"] for each in document["replicas_used"]] == [0, 1]
    assert document["finished"] == 50


def test_people_read_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*BASE, "--rate", "2", "--requests", "60", "--slo", "ttft=2"]) == 0
    text = capsys.readouterr().out
    for part in ("time to first token", "p90", "Goodput", "KV blocks", "Assumed", "Rates: "):
        assert part in text


@pytest.mark.parametrize(
    ("version", "engine", "remark"),
    [
        ("0.6.3", "vllm-v0", "prompts in steps of their own"),
        ("0.11.0", "vllm-v1", "2048 tokens a step"),
        ("0.20", "vllm-v1", "steps scheduled while the one before runs"),
    ],
)
def test_a_version_of_an_engine_brings_its_rates_and_its_habits(
    version: str, engine: str, remark: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = "simulate --model llama-2-7b --system A100-SXM-80GB --engine vllm --rate 1"
    found = said([*words.split(), "--requests", "20", "--engine-version", version], capsys)
    assert engine in json.dumps(found["rates"])
    assert any(remark in each for each in found["assumed"])


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--requests", "5"], "--rate is missing"),
        (["--rate", "2", "--input", "many"], "'many' is not a whole number"),
        (["--rate", "2", "--slo", "tttft=1"], "did you mean"),
        (["--rate", "2", "--highest"], "needs an SLO"),
        (["--arrivals", "closed"], "--concurrency is missing"),
        (["--rate", "2", "--router", "round-robbin"], "is not known"),
        (["--rate", "0"], "must be above 0"),
        (["--rate", "1", "--gpu-memory-utilization", "1.2"], "must lie in (0, 1]"),
        (["--rate", "1", "--replicas", "0"], "at least 1"),
        (["--rate", "1", "--engine-version", "new"], "does not begin with numbers"),
        (["--rate", "1", "--kv-host", "0.5"], "weights in host memory only"),
        (["--trace", "/nowhere/trace.csv"], "/nowhere/trace.csv"),
    ],
)
def test_mistakes_are_one_line_and_leave_no_file(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "times.csv"
    assert main([*BASE, *words, "--requests-out", str(out)]) == 2
    told = capsys.readouterr()
    assert complaint in told.err
    assert told.err.count("\n") == 1
    assert told.out == ""
    assert not list(tmp_path.iterdir())


def test_a_running_server_is_measured_and_recorded(
    server: FakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["profile", "serve", "--url", server.url, "--model", "engine", "--requests", "30"]
    words += ["--input", "20-60", "--output", "5", "--slo", "ttft=100", "--scrape", "0"]
    words += ["--store", str(tmp_path / "kept")]
    document = said([*words, "--concurrency", "3"], capsys)
    (run,) = document["runs"]
    assert (run["ok"], run["requests"], run["attainment"]) == (30, 30, 1.0)
    assert main([*words, "--rates", "20,40", "--seconds", "1"]) == 0
    text = capsys.readouterr().out
    assert text.count("40 of 40 ok") == 2
    assert len(list(read(tmp_path / "kept").entries)) == 3


def test_a_server_that_answers_nothing_is_an_error(
    server: FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["profile", "serve", "--url", server.url, "--model", "429", "--rate", "50"]
    assert main([*words, "--requests", "5", "--warmup", "0", "--scrape", "0"]) == 1
    assert "no request succeeded" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--rate", "1"], "--url"),
        (["--url", "http://x", "--vllm", "python", "--rate", "1"], "--url"),
        (["--url", "http://127.0.0.1:9", "--rate", "1"], "--model is missing"),
        (["--vllm", "python", "--random-model", "huge", "--rate", "1"], "'huge'"),
        (["--url", "http://127.0.0.1:9", "--model", "x", "--rates", "1,x"], "--rates"),
        (["--validate"], "--vllm"),
        (["--validate", "--kept", "/nowhere.json"], "/nowhere.json"),
    ],
)
def test_a_profile_says_what_it_lacks(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["profile", "serve", *words]) == 2
    told = capsys.readouterr().err
    assert complaint in told
    assert told.count("\n") == 1
