"""Rows that hold a start are told by the rows beside them; curves that bend upwards never are."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.records import Record
from calibration.corpus.growth import LEAST_S, lower_hull
from calibration.corpus.mapping import Column, Mapping
from calibration.corpus.reading import Reader, read_table
from corpus.tables import STATIC, write_table

LENGTHS = (128, 256, 512, 1024, 2048)
OWN = ("input_tokens", "output_tokens", "concurrency")
MAPPING = Mapping(
    constants={name: value for name, value in STATIC.items() if name not in OWN},
    columns={name: Column(field=name) for name in OWN[:2]}
    | {"batch": Column(field="concurrency"), "flags": Column(field="flags")},
)


def _read(
    folder: Path, rows: dict[tuple[int, int], float], said: dict[tuple[int, int], str]
) -> dict[tuple[int, int], Record]:
    """Records by (batch, length), from E2E in seconds and what the source says against them."""
    lines = [
        f"{n},{n},{batch},{took_s * 1e3!r},{said.get((batch, n), '')}"
        for (batch, n), took_s in rows.items()
    ]
    path = write_table(folder, "input_tokens,output_tokens,batch,e2e_ms,flags", *lines)
    return dict(zip(rows, read_table(path, MAPPING, Reader()), strict=True))


def _codes(records: dict[tuple[int, int], Record], code: str) -> list[tuple[int, int]]:
    return [key for key, record in records.items() if any(f.code == code for f in record.flags)]


def _clean(
    batch: int, each_s: float = 0.01, bend_s: float = 1e-6, fixed_s: float = 0.1
) -> dict[tuple[int, int], float]:
    return {(batch, n): fixed_s + each_s * n + bend_s * n * n for n in LENGTHS}


@given(each_s=st.floats(1e-3, 1.0), bend_s=st.floats(0.0, 1e-4), fixed_s=st.floats(0.0, LEAST_S))
def test_no_cost_of_a_machine_looks_like_a_start(
    tmp_path_factory: pytest.TempPathFactory, each_s: float, bend_s: float, fixed_s: float
) -> None:
    clean = _clean(1, each_s, bend_s, fixed_s)
    assert not _codes(_read(tmp_path_factory.mktemp("clean"), clean, {}), "start_up")


@given(
    start_s=st.floats(1.0, 20.0),
    places=st.sets(st.sampled_from(LENGTHS[:-1]), min_size=1, max_size=2),
)
def test_starts_are_found_where_they_are(
    tmp_path_factory: pytest.TempPathFactory, start_s: float, places: set[int]
) -> None:
    rows = _clean(1, bend_s=0.0)  # a bend hides what is less than itself
    for n in places:
        rows[1, n] += start_s
    records = _read(tmp_path_factory.mktemp("start"), rows, {})
    assert _codes(records, "start_up") == [(1, n) for n in LENGTHS if n in places]


def test_two_rows_tell_nothing(tmp_path: Path) -> None:
    assert not _codes(_read(tmp_path, {(1, 128): 9.0, (1, 256): 9.1}, {}), "start_up")


def test_a_row_is_acquitted_of_another_ones_start(tmp_path: Path) -> None:
    """The source says that batch 16 fell below batch 1; batch 1 held a start."""
    rows = _clean(1) | _clean(16, each_s=0.011)
    rows[1, 128] += 2.0
    said = {(16, 128): "non_monotone=e2e_s x0.50 when batch 1->16"}
    records = _read(tmp_path, rows, said)
    assert _codes(records, "start_up") == [(1, 128)]
    assert _codes(records, "explained_order") == [(16, 128)]
    assert records[16, 128].verdict == "good"


def test_a_row_that_stopped_early_stays_accused(tmp_path: Path) -> None:
    """It falls below sound rows as well, and is no neighbour to judge them by."""
    rows = _clean(1)
    rows[1, 128] += 2.0
    rows[1, 2048] = 0.05
    said = {(1, 2048): "non_monotone=e2e_s x0.01 when output_tokens 1024->2048"}
    records = _read(tmp_path, rows, said)
    assert _codes(records, "start_up") == [(1, 128)]
    assert _codes(records, "non_monotone") == [(1, 2048)]


@given(
    st.lists(
        st.tuples(st.integers(1, 50), st.floats(0.0, 1e3)),
        min_size=1,
        max_size=12,
        unique_by=lambda p: p[0],
    )
)
def test_no_line_between_two_points_runs_below_the_hull(points: list[tuple[int, float]]) -> None:
    hull = dict(lower_hull([(float(x), y) for x, y in points]))
    for x, y in points:
        lines = [
            a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0])
            for a in points
            for b in points
            if a[0] < x < b[0]
        ]
        below = any(line < y - 1e-9 * max(1.0, abs(y)) for line in lines)
        assert (x not in hull) if below else (x in hull or any(line <= y for line in lines))


def test_of_a_run_that_was_repeated_the_shorter_time_counts() -> None:
    ends = [(0.0, 0.0), (256.0, 3.0)]
    assert lower_hull([*ends, (128.0, 1.0), (128.0, 2.0)]) == lower_hull([*ends, (128.0, 1.0)])
    assert lower_hull([*ends, (256.0, 9.0)]) == ends
