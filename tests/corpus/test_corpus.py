"""The shipped corpus: complete, consistent with itself, and no row lost between in and out."""

from __future__ import annotations

import csv
import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from analyzer.errors import DataError
from analyzer.records import Record
from calibration.corpus import (
    MEM_DIR,
    NEEDS,
    PERF_DIR,
    Corpus,
    columns,
    load_corpus,
    load_operators,
    physics_gate,
    reason_against,
    usable,
)
from calibration.corpus.load import tables_of
from calibration.corpus.summary import README, mem_readme, perf_readme


@pytest.fixture(scope="module")
def perf() -> Corpus:
    return load_corpus(PERF_DIR)


@pytest.fixture(scope="module")
def mem() -> Corpus:
    return load_corpus(MEM_DIR)


def test_every_row_of_every_table_is_a_record(perf: Corpus, mem: Corpus) -> None:
    for root, corpus in ((PERF_DIR, perf), (MEM_DIR, mem)):
        rows = 0
        for declaration in root.rglob("SOURCE.toml"):
            for table in tables_of(declaration.parent):
                with open(table, newline="", encoding="utf-8") as stream:
                    rows += sum(1 for _ in csv.reader(stream)) - 1
        assert len(corpus) == rows


def test_sources_hold_what_they_held_when_they_were_carried_over(perf: Corpus, mem: Corpus) -> None:
    rows = Counter(record.provenance.source for record in perf)
    published = {name: n for name, n in rows.items() if not name.startswith("offload")}
    assert sum(published.values()) == 10_441
    assert published["llm_inference_bench"] == 3_949
    assert published["silicon_sample"] == 3_408
    assert published["tensorrt_llm"] == 556
    assert rows["offload_published"] == 328
    assert rows["offload_policies"] == 11
    peaks = sum("peak_mem_B" in record.metrics for record in mem)
    assert peaks == 600
    read_from_driver = [
        record
        for record in mem
        if record.provenance.source == "optimum_benchmark" and "peak_mem_B" not in record.metrics
    ]
    assert len(read_from_driver) == 45
    assert all("device_used_B" in record.metrics for record in read_from_driver)
    assert sum("process_B" in record.metrics for record in mem) == 28


def test_every_record_says_whose_it_is_and_under_which_licence(perf: Corpus, mem: Corpus) -> None:
    for record in (*perf, *mem):
        provenance = record.provenance
        assert provenance.source
        assert provenance.licence
        assert provenance.place
        measured = set(record.metrics) - set(record.derived)
        assert measured <= provenance.definitions.keys()


@pytest.mark.parametrize("need", NEEDS)
def test_rows_in_are_rows_used_and_rows_excluded(perf: Corpus, mem: Corpus, need: str) -> None:
    for corpus in (perf, mem):
        split = usable(corpus, NEEDS[need])
        ids = [id(record) for record in split.used]
        ids += [id(excluded.record) for excluded in split.excluded]
        assert sorted(ids) == sorted(id(record) for record in corpus)
        assert all(excluded.reason for excluded in split.excluded)


def test_no_suspect_row_enters_a_fit(perf: Corpus) -> None:
    for need in NEEDS.values():
        for record in usable(perf, need).used:
            assert record.verdict_on(need.metric) == "good"


def test_published_throughputs_and_latencies_agree(perf: Corpus) -> None:
    codes = {flag.code for record in perf for flag in record.flags}
    assert "definition_mismatch" not in codes
    assert "batch_is_no_batch" not in codes


def test_without_its_rule_llama_bench_would_be_caught(perf: Corpus) -> None:
    """The rows whose batch is a prompt chunk account for one sequence each."""
    chunks = [
        record
        for record in perf.of_source("llm_inference_bench")
        if record.scenario.engine == "llama.cpp"
    ]
    assert len(chunks) == 1_190
    for record in chunks:
        scenario, metrics = record.scenario, record.metrics
        assert scenario.input_tokens is not None
        assert scenario.output_tokens is not None
        tokens = metrics["total_tok_s"] * metrics["e2e_s"]
        sequences = tokens / (scenario.input_tokens + scenario.output_tokens)
        assert sequences == pytest.approx(1, rel=1e-4)
        assert scenario.concurrency == 1


def test_the_late_first_tokens_of_the_rtx3090_are_the_known_six(perf: Corpus) -> None:
    rows = perf.of_source("jadewang_3090").records
    late = [r for r in rows if any(flag.code == "late_stamp" for flag in r.flags)]
    assert [(r.scenario.tp, r.scenario.input_tokens) for r in late] == [
        (tp, length) for tp in (1, 2) for length in (2657, 3252, 3366)
    ]
    for record in rows:
        metrics = record.metrics
        outputs = record.scenario.output_tokens or 0
        explained = metrics["ttft_s"] + (outputs - 1) * metrics["tpot_s"]
        assert abs(metrics["e2e_s"] - explained) < 0.5 * metrics["tpot_s"]
        assert record.verdict == "good"
    for tp in (1, 2):
        series = sorted(
            (r.scenario.input_tokens or 0, r.metrics["ttft_s"])
            for r in rows
            if r.scenario.tp == tp and r.metrics["ttft_s"]
        )
        ttft = [t for n, t in series if n > 600]
        assert all(b > 0.95 * a for a, b in itertools.pairwise(ttft))


def test_the_rtx3090_memory_row_is_decoded(mem: Corpus) -> None:
    (record,) = mem.of_source("jadewang_3090").records
    bytes_ = record.metrics
    mib = 2**20
    assert bytes_["weights_B"] == pytest.approx(6_738_415_616 * 2, rel=1e-6)
    assert bytes_["kv_cache_B"] == 4097 * 32 * 2 * 4096 * 2
    assert bytes_["logits_B"] == pytest.approx(4097 * 32000 * 2, abs=0.01 * mib)
    parts = bytes_["kv_cache_B"] + bytes_["logits_B"] + bytes_["workspace_B"]
    assert bytes_["prefill_growth_B"] == pytest.approx(parts, abs=0.07 * mib)


def test_pools_are_never_footprints(mem: Corpus) -> None:
    pools = [record for record in mem if "pool_B" in record.metrics]
    assert len(pools) == 100
    assert not any("peak_mem_B" in record.metrics for record in pools)


def test_columns_hold_nan_for_what_is_not_stated(perf: Corpus) -> None:
    table = columns(perf, ["ttft_s", "e2e_s"])
    assert {len(values) for values in table.values()} == {len(perf)}
    measured = np.isfinite(table["ttft_s"])
    assert measured.sum() == sum("ttft_s" in record.metrics for record in perf)
    assert not (table["ttft_s"][measured] <= 0).any()
    unstated = [record.scenario.input_tokens is None for record in perf]
    assert (np.isnan(table["input_tokens"]) == unstated).all()


def test_the_physics_gate_marks_what_beats_the_bound_and_keeps_the_rest(perf: Corpus) -> None:
    records = perf.of_source("jadewang_3090").records

    def bounds(record: Record) -> dict[str, float] | None:
        if record.scenario.tp == 2:
            return None
        least = 0.15e-3 * (record.scenario.input_tokens or 0)
        return {"ttft_s": least, "output_tok_s": 1e9, "not_there_s": 1e9}

    gate = physics_gate(records, bounds)
    assert (gate.checked, gate.unchecked, gate.impossible) == (32, 32, 0)
    assert gate.records == records

    faster = physics_gate(records, lambda record: {"tpot_s": 0.0200})
    fast = [r for r in records if r.metrics["tpot_s"] < 0.02]
    assert faster.impossible == len(fast) > 0
    split = usable(faster.records, NEEDS["tpot"])
    assert len(split.excluded) == len(fast)
    assert {excluded.code for excluded in split.excluded} == {"beats_hardware"}
    assert len(usable(faster.records, NEEDS["e2e"]).used) == len(records), "per metric"
    assert physics_gate(records, lambda record: {"tpot_s": 0.02}, tolerance=1.0).impossible == 0
    rates = physics_gate(perf.of_source("ml_energy"), lambda record: {"output_tok_s": 1.0})
    assert rates.impossible == 274


def test_disaggregated_rows_keep_both_pools(perf: Corpus) -> None:
    pooled = [r for r in perf.of_source("silicon_sample") if r.scenario.prefill_pool is not None]
    assert len(pooled) == 1_516
    assert all(record.scenario.decode_pool is not None for record in pooled)
    counted = [r for r in pooled if reason_against(r, NEEDS["served tpot"]) is None]
    assert len(counted) == 235


def test_the_readmes_say_what_the_data_say() -> None:
    hint = "run calibration.corpus.summary.write_readmes()"
    assert (PERF_DIR / README).read_text(encoding="utf-8") == perf_readme(), hint
    assert (MEM_DIR / README).read_text(encoding="utf-8") == mem_readme(), hint


def test_operator_timings_are_whole_and_positive() -> None:
    table = load_operators()
    assert len(table) == 113_382
    assert len(np.unique(table.columns["hardware"].astype(str))) == 42
    latency = table.columns["latency_s"]
    assert np.isfinite(latency).all()
    assert latency.min() > 0
    gemm = table.select(op="gemm")
    assert len(gemm) == 68_898
    assert np.isfinite([gemm.columns[name] for name in ("m", "n", "k")]).all()
    doubtful = len(table) - len(table.usable())
    assert doubtful == int((~np.isin(table.columns["doubt"], _notes(table))).sum())
    record = gemm.record(0)
    assert record.kind == "operator"
    assert record.case["op"] == "gemm"
    assert record.metrics["latency_s"] == latency[table.columns["op"] == "gemm"][0]


def _notes(table: object) -> list[int]:
    doubts = table.doubts  # type: ignore[attr-defined]
    return [i for i, doubt in enumerate(doubts) if doubt is None or doubt.severity == "note"]


def test_offload_figures_keep_outcomes_and_claims(perf: Corpus) -> None:
    rows = perf.of_kind("offload").records
    outcomes = Counter(str(record.case.get("outcome", "")) for record in rows)
    assert outcomes["out of memory"] + outcomes["failed"] == 6
    assert sum("claim" in record.case for record in rows) == 3
    for record in perf.of_source("offload_policies"):
        placed = [record.case[f"realised_weights_{where}_percent"] for where in _TIERS]
        assert math.isclose(sum(float(share) for share in placed), 100, abs_tol=0.11)
        assert record.metrics["output_tok_s"] > 0


_TIERS = ("gpu", "cpu", "disk")


def test_a_table_that_nobody_speaks_for_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no SOURCE\.toml"):
        load_corpus(tmp_path)
    folder = tmp_path / "known"
    folder.mkdir()
    declared = (PERF_DIR / "fastertransformer" / "SOURCE.toml").read_text(encoding="utf-8")
    (folder / "SOURCE.toml").write_text(declared, encoding="utf-8")
    orphan = tmp_path / "orphan"
    orphan.mkdir()
    (orphan / "x.csv").write_text("a\n1\n")
    with pytest.raises(DataError, match=r"orphan/x\.csv: no SOURCE\.toml beside it"):
        load_corpus(tmp_path)
