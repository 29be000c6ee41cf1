"""Faults put into synthetic series are found, repaired or flagged; clean series are left alone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import DataError
from analyzer.records import Provenance, Record, Scenario
from analyzer.records_arrival import Arrival, ArrivalKind
from calibration.corpus import NEEDS, reason_against
from calibration.corpus.checks import check_row
from calibration.corpus.mapping import Column, Mapping
from calibration.corpus.reading import Reader, read_table
from corpus.tables import STATIC, write_table

OUTPUT = 200
LENGTHS = [24, 80, 200, 400, 700, 1000, 1400, 1900, 2400, 3000]
ALONE = {"concurrency": 1, "output_tokens": OUTPUT, "arrival": "single request"}
MAPPING = Mapping(
    constants={name: v for name, v in {**STATIC, **ALONE}.items() if name != "input_tokens"},
    columns={"input_tokens": Column(field="input_tokens")},
)


def _truth(length: float) -> tuple[float, float, float]:
    """TTFT, TPOT and E2E in ms."""
    ttft, tpot = 15 + 0.22 * length, 18.6 + 0.0014 * length
    return ttft, tpot, ttft + (OUTPUT - 1) * tpot


def _read(
    tmp_path: Path, rows: list[tuple[float, ...]], mapping: Mapping = MAPPING
) -> list[Record]:
    lines = [",".join(repr(value) for value in row) for row in rows]
    path = write_table(tmp_path, "input_tokens,ttft_ms,tpot_ms,e2e_ms", *lines)
    return read_table(path, mapping, Reader())


def _clean() -> list[tuple[float, ...]]:
    return [(float(n), *_truth(n)) for n in LENGTHS]


def test_a_clean_series_is_left_alone(tmp_path: Path) -> None:
    records = _read(tmp_path, _clean())
    assert [record.flags for record in records] == [()] * len(LENGTHS)
    assert [record.metrics["ttft_s"] * 1e3 for record in records] == [
        pytest.approx(_truth(n)[0]) for n in LENGTHS
    ]


@given(row=st.integers(0, len(LENGTHS) - 1), tokens=st.floats(0.6, 15.0))
def test_a_late_first_token_is_found_and_repaired(
    tmp_path_factory: pytest.TempPathFactory, row: int, tokens: float
) -> None:
    rows = _clean()
    length, ttft, tpot, e2e = rows[row]
    rows[row] = (length, ttft + tokens * tpot, tpot, e2e)
    records = _read(tmp_path_factory.mktemp("late"), rows)
    late = [i for i, r in enumerate(records) if any(f.code == "late_stamp" for f in r.flags)]
    assert late == [row]
    assert records[row].metrics["ttft_s"] * 1e3 == pytest.approx(ttft, rel=1e-9)
    assert all(record.verdict == "good" for record in records), "a repaired row may be used"
    said = re.search(r"stamped ([\d.]+) tokens late", records[row].flags[0].reason)
    assert said, "the flag says by how much"
    assert float(said[1]) == pytest.approx(tokens, abs=0.0051), "two decimals, rounded either way"


@given(tokens=st.floats(0.0, 0.45))
def test_rounding_is_no_late_stamp(tmp_path_factory: pytest.TempPathFactory, tokens: float) -> None:
    length, ttft, tpot, e2e = _clean()[4]
    row = (length, ttft + tokens * tpot, tpot, e2e)
    (record,) = _read(tmp_path_factory.mktemp("round"), [row])
    assert record.flags == ()


def test_figures_not_of_the_same_runs_are_not_repaired(tmp_path: Path) -> None:
    length, ttft, tpot, e2e = _clean()[4]
    apart = Mapping(constants=MAPPING.constants, columns=MAPPING.columns, same_runs=False)
    (record,) = _read(tmp_path, [(length, ttft + 3 * tpot, tpot, e2e)], apart)
    assert record.flags == ()
    assert record.metrics["ttft_s"] * 1e3 == pytest.approx(ttft + 3 * tpot)


@pytest.mark.parametrize("made", [1, 20, 100, 170])
def test_a_generation_that_stopped_early_is_no_e2e(tmp_path: Path, made: int) -> None:
    length, ttft, tpot, _ = _clean()[4]
    (record,) = _read(tmp_path, [(length, ttft, tpot, ttft + (made - 1) * tpot)])
    assert [flag.code for flag in record.flags] == ["early_stop"]
    reason = reason_against(record, NEEDS["e2e"])
    assert reason is not None
    assert f"room for {made} of 200" in reason[1]
    assert reason_against(record, NEEDS["tpot"]) is None, "the time of a token stands"


def test_time_that_tokens_do_not_explain_is_flagged(tmp_path: Path) -> None:
    length, ttft, tpot, e2e = _clean()[4]
    (record,) = _read(tmp_path, [(length, ttft, tpot, e2e + 30 * tpot)])
    assert [flag.code for flag in record.flags] == ["timing_mismatch"]


@pytest.mark.parametrize("row", [6, 7, 9])
def test_a_prompt_from_the_cache_is_found(tmp_path: Path, row: int) -> None:
    rows = _clean()
    length, ttft, tpot, e2e = rows[row]
    rows[row] = (length, 0.3 * ttft, tpot, e2e - 0.7 * ttft)
    records = _read(tmp_path, rows)
    found = [i for i, r in enumerate(records) if any(f.code == "prefix_reuse" for f in r.flags)]
    assert found == [row]
    assert reason_against(records[row], NEEDS["ttft"]) is not None
    assert reason_against(records[row], NEEDS["tpot"]) is None


def test_one_slow_row_does_not_accuse_those_after_it(tmp_path: Path) -> None:
    rows = _clean()
    length, ttft, tpot, e2e = rows[2]
    rows[2] = (length, 5 * ttft, tpot, e2e + 4 * ttft)
    assert all(record.verdict == "good" for record in _read(tmp_path, rows))


def test_cached_tokens_that_the_engine_reports_are_believed(tmp_path: Path) -> None:
    path = write_table(tmp_path, "input_tokens,ttft_ms,cached", "1000,50,640", "1000,240,0")
    columns = {**MAPPING.columns, "cached": Column(field="case.cached_tokens", unit="1")}
    records = read_table(path, Mapping(constants=MAPPING.constants, columns=columns), Reader())
    assert [record.verdict_on("ttft_s") for record in records] == ["suspect", "good"]


def test_a_fall_that_a_late_stamp_explains_is_only_noted(tmp_path: Path) -> None:
    rows = []
    for n, late, flags in ((2657, 5, ""), (2773, 0, "non_monotone=ttft_s x0.88"), (3000, 0, "")):
        ttft, tpot, e2e = _truth(n)
        rows.append(f"{n},{ttft + late * tpot!r},{tpot!r},{e2e!r},{flags}")
    path = write_table(tmp_path, "input_tokens,ttft_ms,tpot_ms,e2e_ms,flags", *rows)
    records = read_table(path, MAPPING, Reader())
    assert [[flag.code for flag in record.flags] for record in records] == [
        ["late_stamp"],
        ["explained_order"],
        [],
    ]
    unexplained = write_table(tmp_path, "input_tokens,ttft_ms,tpot_ms,e2e_ms,flags", *rows[1:])
    assert read_table(unexplained, MAPPING, Reader())[0].verdict == "suspect"


def test_repeated_rows_are_refused_or_counted_once(tmp_path: Path) -> None:
    path = write_table(tmp_path, "input_tokens,ttft_ms", "100,37", "200,59", "100,37")
    flagged = read_table(path, MAPPING, Reader())
    assert [record.verdict for record in flagged] == ["good", "good", "suspect"]
    with pytest.raises(DataError, match="row at line 4 repeats line 2; remove one"):
        read_table(path, MAPPING, Reader(refuse_duplicates=True))


@pytest.mark.parametrize(
    ("median_s", "p99_s", "arrival", "codes"),
    [
        (0.04, 0.4, "closed_loop", []),
        (0.04, 0.41, "closed_loop", ["stalled"]),
        (0.04, 5.7, "poisson", []),
    ],
)
def test_a_mean_that_one_of_a_hundred_made_is_no_mean_of_most(
    median_s: float, p99_s: float, arrival: ArrivalKind, codes: list[str]
) -> None:
    record = Record(
        kind="e2e",
        metrics={"ttft_s": 0.1, "tpot_s": 0.005},
        provenance=Provenance(source="s"),
        scenario=Scenario(arrival=Arrival(kind=arrival), concurrency=4.0, output_tokens=200.0),
        spread={"ttft_s": {"median": median_s, "p99": p99_s}},
    )
    checked = check_row(record)
    assert [flag.code for flag in checked.flags] == codes
    assert all(flag.metrics == ("ttft_s",) for flag in checked.flags)
