"""A record survives its line of JSON, notices damage, and is read whatever version wrote it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import DataError, InputError
from analyzer.records import SCHEMA, Flag, Pool, Provenance, Record, Scenario, check_metric, flagged
from analyzer.records_arrival import parse_arrival, stated_count
from analyzer.records_codec import (
    MIGRATIONS,
    canonical_json,
    case_id,
    decode_record,
    encode_record,
    record_id,
)
from analyzer.records_engine import engine_class
from corpus.trial import outcome

STORED = Path(__file__).parent / "data"


def _record(**changes: Any) -> Record:
    made = Record(
        kind="e2e",
        metrics={"ttft_s": 0.0246, "tpot_s": 0.0186},
        provenance=Provenance(source="trial", place="row 1"),
        scenario=Scenario(
            hardware="RTX3090",
            gpus=1,
            tp=1,
            concurrency=1,
            arrival=parse_arrival("single request"),
            input_tokens=24,
            output_tokens=200,
        ),
        samples={"ttft_s": (0.0245, 0.0247)},
        spread={"ttft_s": {"sd": 0.0001}},
        repeats=2,
    )
    return msgspec.structs.replace(made, **changes)


def test_a_record_survives_its_line() -> None:
    record = _record()
    line = encode_record(record)
    assert "\n" not in line
    assert decode_record(line) == record
    assert record_id(decode_record(line)) == record_id(record)


def test_identity_is_of_the_content_and_not_of_its_spelling() -> None:
    assert record_id(_record()) == record_id(_record())
    whole, fraction = _record(repeats=2), _record()
    assert record_id(whole) == record_id(fraction)
    assert canonical_json({"b": 2.0, "a": [1, None]}) == b'{"a":[1,null],"b":2}'
    assert record_id(_record()) != record_id(_record(repeats=3))
    same = Scenario(input_tokens=128), Scenario(input_tokens=128.0)
    assert case_id("e2e", same[0], {"x": 1}) == case_id("e2e", same[1], {"x": 1.0})


SCALARS = st.text(max_size=5) | st.integers(-(2**53), 2**53) | st.booleans()
SECONDS = st.floats(1e-9, 1e9)


@given(
    metrics=st.dictionaries(st.sampled_from(["ttft_s", "power_W", "mine_B"]), SECONDS),
    case=st.dictionaries(st.text(max_size=4), SCALARS | st.floats(-1e9, 1e9), max_size=4),
    samples=st.lists(SECONDS, max_size=5),
    pool=st.builds(Pool, workers=st.none() | st.integers(1, 64), tp=st.integers(1, 64)),
    reason=st.text(max_size=10),
)
def test_any_record_survives_its_line(
    metrics: Any, case: Any, samples: Any, pool: Pool, reason: str
) -> None:
    record = flagged(
        _record(
            metrics=metrics,
            case=case,
            samples={"ttft_s": tuple(samples)},
            scenario=Scenario(prefill_pool=pool),
        ),
        Flag(code="trial", reason=reason),
    )
    again = decode_record(encode_record(record))
    assert record_id(again) == record_id(record)
    assert again.metrics == record.metrics
    assert again.flags == record.flags


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("0.0246", "0.0247", "does not match its id"),
        ('"schema":1', '"schema":2', "schema 2, and this program reads up to 1; update"),
        ('"schema":1', '"schema":0', "whole number from 1"),
        ('"schema":1', '"schema":true', "whole number from 1"),
        ("hardware", "hardwear", "unknown key 'hardwear' (did you mean hardware?)"),
        ('"e2e"', '"e2f"', "kind"),
        ("ttft_s", "ttft", "metric 'ttft' carries no unit (did you mean ttft_s"),
        ("0.0246", "-1", "cannot be negative"),
        ("0.0246", "NaN", "NaN is not a number"),
        ("}", "", "not valid JSON"),
    ],
)
def test_a_damaged_line_is_refused(old: str, new: str, says: str) -> None:
    line = encode_record(_record())
    damaged = line.replace(old, new, 1) if new else line[:-1]
    with pytest.raises(DataError) as caught:
        decode_record(damaged, "store.jsonl: line 3")
    assert str(caught.value).startswith("store.jsonl: line 3")
    assert says in str(caught.value)


@given(cut=st.integers(0, 600), put=st.text(max_size=4))
def test_no_damage_goes_unnoticed(cut: int, put: str) -> None:
    line = encode_record(_record())
    at = cut % len(line)
    damaged = line[:at] + put + line[at + 1 :]
    read = outcome(lambda: decode_record(damaged))
    same = _as_json(damaged) == _as_json(line)
    without_id = '"id"' not in damaged or "trial" not in damaged
    assert isinstance(read, (DataError, InputError)) or same or without_id


def _as_json(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return None


def test_records_of_every_schema_so_far_are_read() -> None:
    stored = sorted(STORED.glob("record_v*.json"))
    assert len(stored) == SCHEMA, "one stored line per schema"
    for path in stored:
        record = decode_record(path.read_text(encoding="utf-8"))
        assert record.schema == SCHEMA
        assert record.metrics["ttft_s"] == 0.0246
    assert sorted(MIGRATIONS) == list(range(1, SCHEMA))


def test_older_schemas_are_brought_up_to_date_step_by_step() -> None:
    def from_1(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "kind": old["kind"] + "_renamed"}

    def from_2(old: dict[str, Any]) -> dict[str, Any]:
        return {**old, "kind": old["kind"].removesuffix("_renamed")}

    line = encode_record(_record())
    read = decode_record(line, migrations={1: from_1, 2: from_2}, newest=3)
    assert read.schema == 3
    assert read.metrics == _record().metrics


def test_verdicts_are_per_metric() -> None:
    doubt = Flag(code="x", reason="y", severity="suspect", metrics=("ttft_s",))
    record = flagged(_record(), doubt, Flag(code="z", reason="", severity="note"))
    assert record.verdict == "suspect"
    assert record.verdict_on("ttft_s") == "suspect"
    assert record.verdict_on("tpot_s") == "good"
    assert flagged(record, doubt) is record, "a flag is not added twice"
    worse = flagged(record, Flag(code="w", reason="", severity="impossible"))
    assert worse.verdict_on("tpot_s") == "impossible"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 0.0])
def test_no_impossible_value_becomes_a_metric(value: float) -> None:
    with pytest.raises(DataError):
        check_metric("ttft_s", value)


def test_zero_is_a_value_where_it_can_be_measured() -> None:
    check_metric("queue_wait_s", 0.0)
    check_metric("gpu_C", -3.0)


@pytest.mark.parametrize(
    ("text", "kind", "rate"),
    [
        ("static batch (gptSessionBenchmark)", "static", None),
        ("single request", "single", None),
        ("closed-loop concurrency, disaggregated", "closed_loop", None),
        ("closed_loop", "closed_loop", None),
        ("offline throughput (all requests queued, in-flight batching)", "offline", None),
        ("Poisson rate 3.5", "poisson", 3.5),
        ("poisson, 12 req/s", "poisson", 12.0),
        ("poisson 0.5 requests per second", "poisson", 0.5),
        ("Poisson QPS 16", "poisson", 16.0),
        ("poisson rate inf", "burst", None),
        ("server, qps = 62.5", "poisson", 62.5),
        ("constant rate 4/s", "constant", 4.0),
        ("MLPerf Offline", "offline", None),
        ("trace of ShareGPT, 10 req/s", "trace", 10.0),
        ("concurrency 16", "closed_loop", None),
        ("all requests at once", "burst", None),
        ("trace azure-conv", "trace", None),
        ("concurrent users", "closed_loop", None),
        ("max-concurrency 16", "closed_loop", None),
        ("poisson(2.5)", "poisson", 2.5),
        ("poisson 2.5", "poisson", 2.5),
        ("poisson, 500 requests", "poisson", None),
        ("QPS 2", "poisson", 2.0),
        ("2.5 qps", "poisson", 2.5),
        ("rate 0.5", "poisson", 0.5),
        ("rate inf", "burst", None),
        ("uniform rate 2", "constant", 2.0),
    ],
)
def test_arrivals_are_read_from_the_sources_words(text: str, kind: str, rate: float | None) -> None:
    arrival = parse_arrival(text)
    assert (arrival.kind, arrival.rate_per_s, arrival.text) == (kind, rate, text)
    assert arrival.is_fixed_batch == (kind in ("static", "single"))


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("closed-loop concurrency", None),
        ("closed-loop concurrency 16", 16.0),
        ("closed-loop, ShareGPT 3000 prompts", 3000.0),
        ("all requests at once (500 requests)", 500.0),
        ("static batch, concurrency 4", None),
    ],
)
def test_words_may_say_how_many(text: str, count: float | None) -> None:
    assert stated_count(parse_arrival(text)) == count


def test_unknown_arrivals_are_refused_with_what_is_known() -> None:
    with pytest.raises(DataError, match=r"arrival 'statik batch' is not known \(did you mean stat"):
        parse_arrival("statik batch")
    with pytest.raises(DataError, match="begin it with one of"):
        parse_arrival("")


@pytest.mark.parametrize(
    ("engine", "version", "date", "expected"),
    [
        ("transformers 4.46.3 + bitsandbytes", "0.44.1", "", "transformers-bnb-0"),
        ("transformers 4.46.3 + bitsandbytes", "0.45.0.dev", "", "transformers-bnb"),
        ("vLLM (Splitwise fork, 2023)", "", "2023-11", "vllm-2023"),
        ("vLLM (Splitwise fork, 2023)", "", "", "vllm-2023"),
        ("vLLM", "0.6.3", "", "vllm-v0"),
        ("vLLM 0.6", "", "", "vllm-v0"),
        ("vLLM 0.6", "0.11.0", "", "vllm-v1"),
        ("vLLM v0.8.5 (V0 engine)", "", "", "vllm-v0"),
        ("vLLM v0.11 V1", "", "", "vllm-v1"),
        ("TensorRT-LLM 1.2.0rc2", "", "", "tensorrt-llm-1"),
        ("TensorRT-LLM v0.9", "", "", "tensorrt-llm-0"),
        ("TensorRT-LLM", "0.7.1", "", "tensorrt-llm-0"),
        ("TensorRT-LLM", "0.7.0.post2", "", "tensorrt-llm-1"),
        ("TensorRT-LLM", "0.5.1-rc0.pre3", "", "tensorrt-llm-1"),
        ("transformers 4.46.3 + bitsandbytes 0.44", "", "", "transformers-bnb-0"),
        ("vLLM", "0.11.0", "", "vllm-v1"),
        ("vllm", "", "", "vllm-v1"),
        ("vLLM", "", "2024-10", "vllm-v0"),
        ("vLLM", "", "2025", "vllm-v1"),
        ("Nvidia TensorRT-LLM", "0.9.0", "", "tensorrt-llm-0"),
        ("TensorRT-LLM", "0.17", "2025-02", "tensorrt-llm-0.10"),
        ("TensorRT-LLM", "0.8.1.post2", "2026", "tensorrt-llm-1"),
        ("HF Accelerate (naive layer PP)", "", "", "accelerate"),
        ("FlexGen (4-bit compression)", "", "", "flexgen"),
        ("FasterTransformer", "v4.0", "", "fastertransformer-4"),
        ("FasterTransformer", "v5.x", "", "fastertransformer"),
        ("Megatron-LM inference", "v5.x", "", "megatron-lm"),
        ("My Engine (fast)", "", "", "my-engine"),
        ("", "", "", "unstated"),
    ],
)
def test_engines_fall_into_classes(engine: str, version: str, date: str, expected: str) -> None:
    assert engine_class(engine, version, date) == expected
