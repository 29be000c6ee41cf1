"""Tables are read strictly: every mistake names file, row and column, and no row is lost."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import DataError, InputError
from analyzer.strict import TableSource, read_csv_rows
from corpus.trial import outcome


def _write(tmp_path: Path, content: bytes | str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "the file is empty"),
        (b"\n\n", "the file is empty"),
        (b"a,b\n", "no rows"),
        (b"a;b\n1;2\n", "semicolons, not commas"),
        (b"a\tb\n1\t2\n", "tabs, not commas"),
        (b"a|b|c\n", "bars, not commas"),
        (b"a,b,a\n1,2,3\n", "column 'a' is there twice"),
        (b"a,,b\n1,2,3\n", "column 2 has no name"),
        (b"a,b\n1,2\n3\n", "line 3: 1 cells where the header has 2; column 'b'"),
        (b"a,b\n1,2,3\n", "line 2: 3 cells where the header has 2; quote"),
        (b"a,b\n1,\xff\n", "not UTF-8"),
        (b'a,b\n1,"2\n3,4\n', "never closed"),
        (b'a,b\n1,"2"x\n', "double the marks"),
        ("a,b\n1,2\n".encode("utf-16"), "is UTF-16"),
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = _write(tmp_path, content)
    with pytest.raises(DataError) as caught:
        list(read_csv_rows(path))
    assert str(caught.value).startswith(str(path))
    assert says in str(caught.value)


def test_missing_and_unknown_columns_name_the_nearest(tmp_path: Path) -> None:
    path = _write(tmp_path, "inputtokens,ttft\n1,2\n")
    with pytest.raises(DataError, match=r"'input_tokens' is missing \(did you mean inputtokens"):
        list(read_csv_rows(path, required=["input_tokens"]))
    with pytest.raises(DataError, match=r"unknown column 'ttft' \(did you mean ttft_ms"):
        list(read_csv_rows(path, known=["inputtokens", "ttft_ms"]))


def test_wrong_delimiter_is_told_before_missing_columns(tmp_path: Path) -> None:
    path = _write(tmp_path, "a;b,c;d\n1;2,3;4\n")
    with pytest.raises(DataError, match="semicolons"):
        list(read_csv_rows(path, required=["a"]))


def test_byte_order_mark_crlf_and_quoted_newlines_are_ordinary(tmp_path: Path) -> None:
    path = _write(tmp_path, '\ufeffa,b\r\n1,"x\r\ny"\r\n2,z\r\n')
    assert list(read_csv_rows(path)) == [(2, {"a": "1", "b": "x\r\ny"}), (4, {"a": "2", "b": "z"})]


def test_compressed_tables_read_alike_and_damage_is_told(tmp_path: Path) -> None:
    whole = gzip.compress(b"a,b\n1,2\n" * 1)
    assert list(read_csv_rows(_write(tmp_path, whole, "t.csv.gz"))) == [(2, {"a": "1", "b": "2"})]
    for damaged in (whole[:-6], b"a,b\n1,2\n", whole[:12] + b"\x00" + whole[13:]):
        with pytest.raises(DataError, match=r"t\.csv\.gz"):
            list(read_csv_rows(_write(tmp_path, damaged, "t.csv.gz")))


def test_what_is_not_there_says_so(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.csv", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            list(read_csv_rows(path))


def test_a_million_rows_stream(tmp_path: Path) -> None:
    path = tmp_path / "big.csv"
    path.write_text("a,b\n" + "1,2\n" * 1_000_000 + "3\n")
    rows = read_csv_rows(path)
    assert next(rows) == (2, {"a": "1", "b": "2"}), "the first row comes before the last is read"
    assert sum(1 for _ in itertools.islice(rows, 999_999)) == 999_999
    with pytest.raises(DataError, match="line 1000002: 1 cells"):
        next(rows)


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "inf", "-Infinity", "1_000", "0x10", "١٢", "1,5", "", "1e999", "--1"]
)
def test_what_only_looks_like_a_number_is_none(text: str) -> None:
    at = TableSource(path="t.csv", line_no=7)
    with pytest.raises(DataError, match=r"t\.csv: row at line 7, column 'E2E': "):
        at.number("E2E", text)


def test_bounds_and_wholeness_are_kept() -> None:
    at = TableSource(path="t.csv", line_no=7)
    assert at.number("x", " 1.5e3 ") == 1500.0
    assert at.number("x", "200.0", whole=True) == 200.0
    for bounds in ({"above": 2.0}, {"least": 3.0}, {"whole": True}):
        with pytest.raises(DataError):
            at.number("x", "2" if "whole" not in bounds else "2.5", **bounds)  # type: ignore[arg-type]


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=6)


@given(rows=st.lists(st.lists(CELLS, min_size=3, max_size=3), min_size=1, max_size=8))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: object) -> None:
    table = [[str(cell) for cell in row] for row in rows]  # type: ignore[attr-defined]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([["a", "b", "c"], *table])
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(text.getvalue(), encoding="utf-8", newline="")
    assert [list(row.values()) for _, row in read_csv_rows(path)] == table


@settings(max_examples=300)
@given(content=st.binary(max_size=60) | st.text("a,b;\n\r\"'1.é\t ", max_size=40))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "t.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = outcome(lambda: list(read_csv_rows(path)))
    if isinstance(rows, InputError):
        assert str(rows).startswith(str(path))
    else:
        assert rows
        assert len({tuple(row) for _, row in rows}) == 1
