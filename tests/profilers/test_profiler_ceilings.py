"""Ceilings recover the peaks that made-up records were made from; data files are all or nothing."""

from __future__ import annotations

import pytest

from analyzer.errors import CalibrationError, InputError
from analyzer.records import Flag, Provenance, Record, Scenario
from analyzer.records_codec import decode_record, record_id
from analyzer.systems_catalog import load_system
from profilers.ceilings import ceilings, system_document, to_toml
from profilers.reading import load_records, overview, split_by_folder, write_records
from profilers.store import Store

FACTS = {
    "device": "cuda Abacus 9000", "gpu_count": 2, "gpu_units": 64, "cache_B": 50e6,
    "device_memory_B": 80e9, "disk_B": 1e12,
}  # fmt: skip
PEAK, BANDWIDTH, LINK, LATENCY = 4e14, 2e12, 5e10, 8e-6


def record(kind="operator", seconds=1.0, moved_B=0.0, flops=0.0, flags=(), **case) -> Record:
    metrics = {"latency_s": seconds, "bandwidth_Bps": moved_B / seconds, "arithmetic_FLOP": flops}
    return Record(
        kind=kind,
        metrics={name: value for name, value in metrics.items() if value},
        provenance=Provenance(source="test"),
        scenario=Scenario(hardware="Abacus 9000"),
        case=case,
        spread={"latency_s": {"p10": seconds}},
        flags=flags,
        environment=FACTS,
    )


def roofline_gemm(m: int, dtype: str, peak: float) -> Record:
    n = k = 16384
    flops, moved_B = 2.0 * m * n * k, 2.0 * n * k
    seconds = 5e-6 + max(flops / peak, moved_B / BANDWIDTH)
    return record(
        seconds=seconds, moved_B=moved_B, flops=flops,
        op="gemm", dtype=dtype, m=m, n=n, k=k, cache="cold",
    )  # fmt: skip


def transfers() -> list[Record]:
    made = []
    for nbytes in (4096.0, 1e6, 1e9):
        seconds = LATENCY + nbytes / LINK
        for op in ("h2d", "d2h"):
            made.append(record("link", seconds, nbytes, op=op, bytes=nbytes, variant="pinned"))
        made.append(record("link", 3 * seconds, nbytes, op="h2d", bytes=nbytes, variant="pageable"))
        made.append(record("collective", seconds, nbytes, op="p2p", bytes=nbytes, gpus=2))
        for op in ("disk_read", "disk_write"):
            made.append(record("link", nbytes / 1e9, nbytes, op=op, bytes=nbytes, variant="direct"))
    return made


@pytest.fixture
def records():
    products = [roofline_gemm(m, "bf16", PEAK) for m in (1, 16, 4096, 16384)]
    products += [roofline_gemm(8192, "fp32", PEAK / 16)]
    # a stream within the cache is fast, and not memory
    hot = record("link", 1e6 / 2e13, 1e6, op="memory_copy", bytes=5e5)
    far = record("link", 4e9 / (0.9 * BANDWIDTH), 4e9, op="memory_triad", bytes=1e9)
    return [*products, hot, far, *transfers()]


def test_peaks_and_bandwidths_are_recovered(records):
    found = ceilings(records)
    assert found["device.peak_flops.bf16"].value == pytest.approx(PEAK, rel=0.01)
    assert found["device.peak_flops.fp32"].value == pytest.approx(PEAK / 16, rel=0.01)
    assert found["device.memory_bandwidth_Bps"].value == pytest.approx(BANDWIDTH, rel=0.02)
    assert found["host_link.h2d_Bps"].value == pytest.approx(LINK, rel=0.01)
    assert found["host_link.latency_s"].value == pytest.approx(LATENCY, rel=0.02)
    assert found["intra_node.bandwidth_Bps"].value == pytest.approx(LINK, rel=0.01)
    assert found["disk.read_Bps"].value == pytest.approx(1e9)


def test_every_ceiling_names_its_record(records):
    by_id = {record_id(entry)[:12]: entry for entry in records}
    for ceiling in ceilings(records).values():
        assert set(ceiling.records) <= set(by_id)
        assert ceiling.records[0] in ceiling.source


def test_a_doubtful_record_makes_a_doubtful_ceiling(records):
    noisy = record(
        seconds=1.0,
        flops=10 * PEAK,
        op="gemm",
        dtype="bf16",
        flags=(Flag(code="noisy", reason="x"),),
    )
    assert "noisy: x" in ceilings([*records, noisy])["device.peak_flops.bf16"].source


def test_the_system_file_is_one_that_the_analyzer_reads(records, tmp_path):
    path = tmp_path / "abacus.toml"
    path.write_text(to_toml(system_document("Abacus 9000", records)))
    system = load_system(str(path))
    assert system.device.kind == "gpu"
    assert system.device.peak("bf16") == pytest.approx(PEAK, rel=0.01)
    assert system.device.memory_B == 80e9
    assert system.devices_per_node == 2
    assert system.source_of("device.memory_bandwidth_Bps").startswith("measured: ")
    assert system.disk is not None
    assert system.disk.read_Bps == pytest.approx(1e9)
    assert system.host_link is not None


def test_parts_that_are_not_whole_are_left_out(records, tmp_path):
    few = [entry for entry in records if entry.case.get("op") not in ("d2h", "p2p", "disk_write")]
    document = system_document("Abacus", few)
    assert not {"host_link", "disk"} & set(document)
    assert not any(path.startswith(("host_link", "disk")) for path in document["sources"])
    path = tmp_path / "a.toml"
    path.write_text(to_toml(document))
    assert load_system(str(path)).host_link is None


def test_too_few_records_say_what_is_missing(records):
    only_links = [entry for entry in records if entry.kind == "collective"]
    with pytest.raises(CalibrationError, match=r"do not tell device\.memory_bandwidth_Bps"):
        system_document("Abacus", only_links)


def test_failed_cases_are_no_ceilings(records):
    failed = Record(kind="operator", metrics={}, provenance=Provenance(source="test"))
    assert ceilings([failed]) == {}
    assert ceilings([*records, failed]) == ceilings(records)


def test_records_are_written_whole_and_not_over_others(records, tmp_path):
    path = tmp_path / "deep" / "operator.jsonl"
    assert write_records(records, path) == len(records)
    again = [decode_record(line) for line in path.read_text().splitlines()]
    assert again == records
    with pytest.raises(InputError, match="exists"):
        write_records([], path)
    with pytest.raises(Exception, match="boom"):
        write_records(_exploding(records), path, replace=True)
    assert len(path.read_text().splitlines()) == len(records)
    assert [entry.name for entry in path.parent.iterdir()] == ["operator.jsonl"]


def _exploding(records):
    yield records[0]
    raise RuntimeError("boom")


def test_the_latest_record_of_a_case_counts(records, tmp_path):
    failed = Record(kind="operator", metrics={}, provenance=Provenance(source="test"))
    with Store(tmp_path, {}, fingerprint="f", durable=False) as store:
        store.append("a", failed)
        store.append("b", records[0])
        store.append("a", records[1])
    assert load_records(tmp_path) == (records[1], records[0])
    with pytest.raises(InputError, match="holds no records"):
        load_records(tmp_path / "elsewhere")


def test_an_overview_counts_kinds_and_doubts(records):
    counted = overview(records)
    assert counted.records == len(records)
    assert counted.by_kind["collective"] == 3
    assert counted.by_doubt == {"none": len(records)}
    assert set(split_by_folder(records)) == {
        "perf/operator.jsonl", "perf/link.jsonl", "perf/collective.jsonl",
    }  # fmt: skip
