"""Closed loops that cannot have run as their rows state."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from analyzer.quirks import repaired
from analyzer.records import Provenance, Record, Scenario
from analyzer.records_arrival import Arrival
from calibration.corpus import NEEDS, reason_against
from calibration.corpus.loops import check_loops

ROW = Scenario(
    hardware="B200",
    tp=8,
    gpus=8,
    model="deepseek-ai/DeepSeek-R1",
    engine="SGLang",
    engine_version="0.5.9",
    weight_precision="fp8",
    arrival=Arrival(kind="closed_loop"),
    input_tokens=1024.0,
    output_tokens=1024.0,
)


def _row(requests: float, ttft_s: float, tpot_s: float, **other: object) -> Record:
    return Record(
        kind="e2e",
        metrics={"ttft_s": ttft_s, "tpot_s": tpot_s},
        provenance=Provenance(source="silicon_sample"),
        scenario=msgspec.structs.replace(ROW, concurrency=requests, **other),
    )


def _codes(rows: Iterable[Record]) -> list[list[str]]:
    return [[flag.code for flag in row.flags] for row in check_loops(list(rows))]


def test_the_faster_of_two_loops_under_one_description_drafted() -> None:
    rows = [_row(4, 0.2, 0.009), _row(4, 0.25, 0.006), _row(4, 0.2, 0.00895)]
    assert _codes(rows) == [[], ["drafted"], []]
    checked = check_loops(rows)
    assert reason_against(checked[0], NEEDS["served tpot"]) is None
    reason = reason_against(checked[1], NEEDS["served tpot"])
    assert reason is not None
    assert reason[0] == "drafted"


def test_which_of_two_a_lone_loop_was_cannot_be_told() -> None:
    rows = [
        _row(4, 0.2, 0.009),
        _row(4, 0.25, 0.006),
        _row(128, 1.4, 0.028),
        _row(128, 1.4, 0.028, tp=4, gpus=4),
        _row(128, 1.4, 0.028, engine_version="0.5.6"),
        _row(128, 1.4, 0.028, weight_precision="fp4"),
        _row(128, 1.4, 0.028, engine="vLLM"),
    ]
    assert _codes(rows) == [[], ["drafted"], ["drafted_or_not"], [], [], [], []]


def test_first_tokens_that_come_sooner_among_more_requests_waited_for_a_start() -> None:
    short = [_row(each, 0.1 * each, 0.01) for each in (4, 8, 16)]
    assert _codes(short) == [[], [], []]
    tainted = [
        *short,
        _row(4, 7.0, 0.011, input_tokens=8192.0),
        _row(8, 2.0, 0.02, input_tokens=8192.0),
    ]
    assert _codes(tainted) == [["start_in_loop"]] * 5
    checked = check_loops(tainted)
    assert reason_against(checked[0], NEEDS["served ttft"]) is not None
    assert reason_against(checked[0], NEEDS["served tpot"]) is None, "the steps are as ever"
    other = _row(4, 0.3, 0.01, engine_version="0.5.10")
    assert _codes([*tainted, other])[-1] == []


def test_other_sources_are_left_alone() -> None:
    rows = [_row(4, 7.0, 0.009), _row(4, 0.2, 0.006), _row(8, 0.1, 0.01)]
    elsewhere = [
        msgspec.structs.replace(row, provenance=Provenance(source="another")) for row in rows
    ]
    assert _codes(elsewhere) == [[], [], []]


def test_what_the_scripts_told_sglang() -> None:
    def as_run(**other: object) -> Scenario:
        return repaired(msgspec.structs.replace(ROW, **other), "silicon_sample")

    assert as_run().kv_precision == "fp8"
    assert as_run(hardware="H200").kv_precision == ""
    assert as_run(hardware="H200", engine="vLLM").kv_precision == "fp8"
    assert as_run(tp=4, gpus=4).variant == "scheduler-recv-interval=10"
    assert as_run().variant == as_run(tp=4, gpus=4, weight_precision="fp4").variant == ""
