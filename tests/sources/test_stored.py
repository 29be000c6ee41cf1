"""Records as tables, and the hook that measures here: what is kept, what is left out, and why."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import DataError, ProfilerError
from analyzer.records import Flag, Provenance, Record, Scenario
from analyzer.records_codec import encode_record
from analyzer.sources.measured import Request
from analyzer.sources.stored import read_stored
from profilers.cases import Case, Outcome
from profilers.here import Here, case_of
from profilers.store import Store

FACTS = {"device": "cuda:0", "name": "made up"}


def record(seconds: float, flags: tuple[Flag, ...] = (), **case: Any) -> Record:
    return Record(
        kind="operator",
        metrics={"latency_s": seconds},
        provenance=Provenance(source="made up"),
        scenario=Scenario(engine="torch", hardware="H100-SXM"),
        case={"op": "gemm", "dtype": "bf16", "m": 8, "n": 64, "k": 32, "cache": "cold"} | case,
        flags=flags,
        environment={"device": "cuda:0"},
    )


RECORDS = [
    record(1e-5, launch="graph"),
    record(2e-5, launch="eager"),
    record(3e-5, cache="hot"),
    record(4e-5, flags=(Flag(code="noisy", reason="others were there"),)),
    record(5e-5, op="attn_prefill", batch=2, q_len=64, n_heads=8, n_kv_heads=2, head_dim=64),
    record(6e-5, op="attn_decode", batch=2, kv_len=64, n_heads=8, n_kv_heads=2, head_dim=64),
]
LEFT_OUT = {
    "rows launched one by one on a GPU": 1,
    "rows with a hot cache": 1,
    "rows that carry a doubt": 1,
}


def check(rows: Any, remarks: dict[str, int]) -> None:
    assert rows.seconds.tolist() == [1e-5, 5e-5, 6e-5]
    assert rows.text["op"].tolist() == ["gemm", "attn_prefill", "attn_decode"]
    assert rows.numbers["kv_len"][1:].tolist() == [64, 64]
    assert rows.numbers["q_len"][1:].tolist() == [64, 1]
    assert set(rows.text["cache"]) == {"cold"}
    assert remarks == LEFT_OUT


def test_a_store_and_its_export_are_the_same_table(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with Store(folder, FACTS, fingerprint="f" * 16) as store:
        for number, one in enumerate(RECORDS):
            store.append(str(number), one)
    remarks: dict[str, int] = {}
    check(read_stored(folder, remarks), remarks)
    export = tmp_path / "export.jsonl"
    export.write_text("".join(f"{encode_record(one)}\n" for one in RECORDS))
    remarks = {}
    check(read_stored(export, remarks), remarks)


def test_a_torn_end_is_counted_and_damage_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with Store(folder, FACTS, fingerprint="f" * 16) as store:
        store.append("a", RECORDS[0])
    path = folder / "records.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole.splitlines()[-1][:60])
    remarks: dict[str, int] = {}
    assert len(read_stored(folder, remarks)) == 1
    assert remarks == {"lines that were half written": 1}
    path.write_text(whole.replace('"m":8', '"m":9'))
    with pytest.raises(DataError, match="line 2: is damaged"):
        read_stored(folder, {})
    with pytest.raises(DataError, match="cannot be read"):
        read_stored(tmp_path / "nothing.jsonl", {})


class Bench:
    """A device that takes a microsecond per row."""

    is_cpu = True

    def __init__(self) -> None:
        self.asked: list[Case] = []

    def measure(self, cases: list[Case], rules: Any, seed: int) -> Iterator[Outcome]:
        for case in cases:
            self.asked.append(case)
            seconds = 1e-6 * float(case.case["m"])
            spread = {"latency_s": {"mean": seconds, "sd": 0.02 * seconds}}
            yield Outcome(case=case.id, metrics={"latency_s": seconds}, spread=spread)


GEMM = Request("gemm", "bf16", "", (("m", 7.6), ("n", 64.0), ("k", 32.0)))


def test_a_shape_is_measured_once() -> None:
    here = Here()
    here._bench = bench = Bench()
    assert here(GEMM) == (8e-6, pytest.approx(0.02))
    assert here(GEMM) == here(GEMM)
    assert len(bench.asked) == 1
    assert bench.asked[0].case == {
        "op": "gemm", "dtype": "bf16", "m": 8, "n": 64, "k": 32, "cache": "cold", "launch": "eager",
    }  # fmt: skip


def test_what_has_no_profile_says_so() -> None:
    shape = (("batch", 2.0), ("new", 8.0), ("keys", 64.0), ("kv_heads", 2.0), ("shared", 4.0),
             ("head_dim", 64.0))  # fmt: skip
    with pytest.raises(ProfilerError, match="chunk behind others"):
        case_of(Request("attn_prefill", "bf16", "bf16", shape), "eager")
    with pytest.raises(ProfilerError, match="fused layer"):
        case_of(Request("moe", "bf16", "", (("rows", 2.0),)), "eager")
    decode = Request("attn_decode", "bf16", "bf16", tuple(p for p in shape if p[0] != "new"))
    assert case_of(decode, "graph").case["kv_len"] == 64
