"""Loads: what arrives, when, how long; traces; the first n do not depend on how many follow."""

from __future__ import annotations

import gzip
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from analyzer.errors import ConfigError, DataError
from analyzer.workload_arrivals import (
    AllAtOnce,
    ClosedLoop,
    Constant,
    Fixed,
    FromTrace,
    Gamma,
    Load,
    LogNormal,
    Poisson,
    Ramp,
    SharedPrefix,
    TraceLength,
    Turns,
    Uniform,
    requests,
)
from analyzer.workload_traces import read_trace


def gaps(arrivals: object, count: int = 20_000) -> np.ndarray:
    load = Load(arrivals=arrivals, requests=count, seed=1)
    return np.diff([spec.scheduled_s for spec in requests(load)], prepend=0.0)


@pytest.mark.parametrize(
    ("arrivals", "variation"),
    [
        (Poisson(rate_per_s=5), 1.0),
        (Gamma(rate_per_s=5, burstiness=0.25), 2.0),
        (Gamma(rate_per_s=5, burstiness=4), 0.5),
        (Constant(rate_per_s=5), 0.0),
    ],
)
def test_gaps_have_the_asked_mean_and_variation(arrivals: object, variation: float) -> None:
    seen = gaps(arrivals)
    assert seen.mean() == pytest.approx(0.2, rel=0.05)
    assert seen.std() / seen.mean() == pytest.approx(variation, rel=0.05, abs=1e-6)


def test_a_ramp_moves_the_rate() -> None:
    load = Load(
        arrivals=Ramp(start_rate_per_s=10, end_rate_per_s=110, duration_s=100), requests=9000
    )
    times = np.asarray([spec.scheduled_s for spec in requests(load)])
    per_10_s, _ = np.histogram(times, bins=np.arange(0, 130, 10))
    expected = [10 * (10 + 5 + 10 * i) for i in range(10)] + [1100, 1100]
    assert per_10_s == pytest.approx(expected, rel=0.2)


def test_offline_and_closed_loads_have_no_schedule_of_their_own() -> None:
    assert {s.scheduled_s for s in requests(Load(arrivals=AllAtOnce(), requests=9))} == {0.0}
    closed = Load(arrivals=ClosedLoop(concurrency=2), requests=9)
    assert {s.scheduled_s for s in requests(closed)} == {None}


def test_lengths_follow_their_distributions() -> None:
    load = Load(
        arrivals=AllAtOnce(),
        input_tokens=LogNormal(median=300, sigma=0.5, low=50, high=2000),
        output_tokens=Uniform(low=3, high=7),
        requests=20_000,
    )
    specs = list(requests(load))
    prompts = np.asarray([spec.input_tokens for spec in specs])
    answers = {spec.output_tokens for spec in specs}
    assert np.median(prompts) == pytest.approx(300, rel=0.02)
    assert np.log(prompts).std() == pytest.approx(0.5, rel=0.05)
    assert 50 <= prompts.min() <= prompts.max() <= 2000
    assert answers == {3, 4, 5, 6, 7}


def test_the_stream_is_seeded_and_does_not_depend_on_its_length() -> None:
    def load(count: int, seed: int = 4, rate: float = 3.0) -> Load:
        return Load(
            arrivals=Gamma(rate_per_s=rate, burstiness=0.5),
            input_tokens=LogNormal(median=99, sigma=1),
            output_tokens=Uniform(low=1, high=99),
            shared_prefix=SharedPrefix(tokens=10, groups=4),
            requests=count,
            seed=seed,
        )

    long = list(requests(load(9001)))
    assert list(requests(load(5000))) == long[:5000]
    assert list(requests(load(9001))) == long
    assert list(requests(load(9001, seed=5))) != long
    # Another rate moves the times only.
    faster = list(requests(load(100, rate=30.0)))
    assert [s._replace(scheduled_s=0.0) for s in faster] == [
        s._replace(scheduled_s=0.0) for s in long[:100]
    ]


def test_turns_repeat_what_was_said() -> None:
    load = Load(
        arrivals=Constant(rate_per_s=1),
        input_tokens=Fixed(tokens=10),
        output_tokens=Fixed(tokens=5),
        requests=5,
        turns=Turns(count=3, think_s=2.0),
        shared_prefix=SharedPrefix(tokens=100),
    )
    first, second = requests(load)
    assert [spec.input_tokens for spec in (first, *first.follow_ups)] == [110, 125, 140]
    assert [spec.number for spec in (second, *second.follow_ups)] == [3, 4]
    assert first.follow_ups[1].segments[-1] == (first.follow_ups[0].own_key, 130)
    assert first.follow_ups[0].think_s == 2.0


def test_azure_traces(tmp_path: Path) -> None:
    path = tmp_path / "azure.csv"
    path.write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,4808,10\n"
        "2023-11-16 18:17:04.0319600,3180,8\n"
        "2023-11-16 18:18:04.0319600,110,27\n"
    )
    load = Load(
        arrivals=FromTrace(speed=2.0),
        input_tokens=TraceLength(),
        output_tokens=TraceLength(),
        trace=str(path),
    )
    specs = list(requests(load))
    assert [(s.input_tokens, s.output_tokens) for s in specs] == [(4808, 10), (3180, 8), (110, 27)]
    assert [s.scheduled_s for s in specs] == pytest.approx([0.0, 0.026, 30.026], abs=1e-6)


def test_json_lines_in_three_dialects(tmp_path: Path) -> None:
    ns = tmp_path / "a.jsonl"
    ns.write_text('{"input_toks": 7, "output_toks": 3, "arrival_time_ns": 2500000000}\n')
    assert next(read_trace(ns)) == (2.5, 7, 3, ())
    mooncake = tmp_path / "b.jsonl"
    row = {"timestamp": 1500, "input_length": 1100, "output_length": 9, "hash_ids": [4, 8, 15]}
    mooncake.write_text(json.dumps(row) + "\n\n")
    assert next(read_trace(mooncake)) == (1.5, 1100, 9, ((4, 512), (8, 1024)))
    listed = tmp_path / "c.json"
    listed.write_text('[{"prompt_tokens": 5, "completion_tokens": 6}]')
    assert next(read_trace(listed)) == (None, 5, 6, ())


def test_compressed_csv_and_sampled_arrivals(tmp_path: Path) -> None:
    path = tmp_path / "lengths.csv.gz"
    with gzip.open(path, "wt") as out:
        out.write("input_tokens,output_tokens\n" + "".join(f"{i},{i + 1}\n" for i in range(1, 60)))
    load = Load(
        arrivals=Poisson(rate_per_s=2),
        input_tokens=TraceLength(),
        output_tokens=Fixed(tokens=4),
        trace=str(path),
        requests=50,
    )
    specs = list(requests(load))
    assert [s.input_tokens for s in specs] == list(range(1, 51))
    assert {s.output_tokens for s in specs} == {4}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("input_tokens\n5\n", "no column with answer tokens"),
        ("input_tokens,output_tokens\n5,x\n", "line 2, column 'output_tokens'"),
        ("input_tokens,output_tokens\n5,0\n", "0 is below 1"),
        ("timestamp,input_tokens,output_tokens\n2,5,5\n1,5,5\n", "line 3: time goes back"),
        ("timestamp,input_tokens,output_tokens\n2023-13-40 10:10:10,5,5\n", "timestamp"),
    ],
)
def test_bad_traces_name_the_place(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=complaint):
        list(read_trace(path))


@pytest.mark.parametrize("text", ["{", "[1]", '{"input_tokens": 3}', "\xff"])
def test_bad_json_lines_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError):
        list(read_trace(path))


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"arrivals": Poisson(rate_per_s=0)}, "arrivals.rate_per_s must be above 0"),
        ({"arrivals": ClosedLoop(concurrency=0)}, "arrivals.concurrency"),
        ({"arrivals": FromTrace()}, "want a trace"),
        ({"input_tokens": TraceLength()}, "want a trace"),
        ({"input_tokens": Fixed(tokens=0)}, "at least 1 token"),
        ({"output_tokens": Uniform(low=9, high=3)}, "high 3 is below low 9"),
        ({"requests": None}, "say how many requests"),
        ({"requests": 0}, "requests must be above 0"),
    ],
)
def test_impossible_loads_are_refused(fields: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Load(**{"arrivals": AllAtOnce(), "requests": 3, **fields})


def test_hopeless_ranges_end_with_a_word(tmp_path: Path) -> None:
    load = Load(
        arrivals=AllAtOnce(),
        requests=5,
        input_tokens=LogNormal(median=10, sigma=0.1, low=5000, high=6000),
    )
    with pytest.raises(ConfigError, match="widen the range"):
        list(requests(load))
    trace = tmp_path / "untimed.csv"
    trace.write_text("input_tokens,output_tokens\n5,5\n")
    with pytest.raises(ConfigError, match="time column"):
        list(requests(Load(arrivals=FromTrace(), trace=str(trace))))


def test_requests_are_made_as_they_are_asked_for() -> None:
    endless = Load(arrivals=Poisson(rate_per_s=1), requests=10**12)
    assert len(list(islice(requests(endless), 10))) == 10
