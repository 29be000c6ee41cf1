"""Strict reading of tables: streamed, and every fault named by file, row and column.

Rows are plain dicts of text; what a column means is decided by who reads it. Numbers are read with
`number`, which refuses what Python would wave through ('nan', '1_000', '١٢').
"""

from __future__ import annotations

import csv
import gzip
import math
import re
import zlib
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from analyzer.errors import DataError, nearest

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_LARGEST_CELL = 1 << 20
_HUGE = 1e300


class TableSource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a cell stands, for error messages."""

    path: str
    line_no: int

    def error(self, column: str, what: str) -> DataError:
        """A DataError that names file, row and column."""
        return DataError(f"{self.path}: row at line {self.line_no}, column '{column}': {what}")

    def number(
        self,
        column: str,
        text: str,
        *,
        least: float = -math.inf,
        above: float = -math.inf,
        whole: bool = False,
    ) -> float:
        """The finite number in a cell, ≥ `least` and > `above`; raises DataError otherwise."""
        stripped = text.strip()
        if not _PLAIN_NUMBER.fullmatch(stripped):
            raise self.error(column, _not_a_number(stripped))
        value = float(stripped)
        if value >= least and value > above and value < _HUGE and not whole:
            return value
        return self._checked(column, stripped, value, least, above, whole)

    def _checked(
        self, column: str, text: str, value: float, least: float, above: float, whole: bool
    ) -> float:
        if not math.isfinite(value):
            raise self.error(column, f"{text} is too large for a number")
        if value < least:
            raise self.error(column, f"{text} is below {least:g}, which is the least possible")
        if value <= above:
            raise self.error(column, f"{text} is not above {above:g}")
        if whole and value != int(value):
            raise self.error(column, f"{text} is not a whole number")
        return value


def read_csv_rows(
    path: str | Path,
    *,
    required: Collection[str] = (),
    known: Collection[str] | None = None,
    delimiter: str = ",",
    allow_no_rows: bool = False,
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file (plain or .gz), one row at a time.

    Missing `required` columns, columns outside `known`, a wrong delimiter, duplicate or empty
    names, rows with too few or too many cells and bytes that are not UTF-8 raise DataError.
    """
    with _opened(path) as stream:
        reader = csv.reader(stream, delimiter=delimiter, strict=True)
        numbered = _numbered(path, reader)
        first = next(numbered, None)
        if first is None:
            raise DataError(f"{path}: the file is empty; the first line must name the columns")
        header = _checked_header(path, first[1], delimiter, required, known)
        rows = 0
        for line_no, cells in numbered:
            if len(cells) != len(header):
                raise DataError(_ragged(path, line_no, cells, header, delimiter))
            rows += 1
            yield line_no, dict(zip(header, cells, strict=True))
        if rows == 0 and not allow_no_rows:
            raise DataError(f"{path}: has column names but no rows")


def _numbered(path: str | Path, reader: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    """Rows that hold anything, with the line that each begins on."""
    previous_limit = csv.field_size_limit(_LARGEST_CELL)
    line_no = 1
    try:
        while True:
            line_no = getattr(reader, "line_num", 0) + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            if cells:
                yield line_no, cells
    except UnicodeDecodeError as error:
        bad = error.object[error.start]
        raise DataError(
            f"{path}: not UTF-8 at or after line {line_no} (byte 0x{bad:02x}); save it as UTF-8"
        ) from None
    except csv.Error as error:
        raise DataError(f"{path}: row at line {line_no}: {_said(error)}") from None
    finally:
        csv.field_size_limit(previous_limit)


def _said(error: csv.Error) -> str:
    text = str(error)
    if "field larger" in text or "unexpected end" in text:
        return "a quotation mark is opened and never closed"
    if "expected after" in text:
        return 'a quoted cell goes on after its closing mark; double the marks inside it ("")'
    return text


@contextmanager
def _opened(path: str | Path) -> Iterator[IO[str]]:
    try:
        with open(path, "rb") as raw:
            if raw.read(2) in (b"\xff\xfe", b"\xfe\xff"):
                raise DataError(f"{path}: is UTF-16; save it as UTF-8")
        opener = gzip.open if str(path).endswith(".gz") else open
        with opener(path, "rt", encoding="utf-8-sig", newline="") as stream:
            yield stream
    except (EOFError, gzip.BadGzipFile, zlib.error):
        raise DataError(f"{path}: the compressed file is damaged or cut short") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None


def _checked_header(
    path: str | Path,
    cells: list[str],
    delimiter: str,
    required: Collection[str],
    known: Collection[str] | None,
) -> list[str]:
    header = [cell.strip() for cell in cells]
    _refuse_wrong_delimiter(path, header, delimiter, required)
    for position, name in enumerate(header, 1):
        if not name:
            raise DataError(f"{path}: column {position} has no name; name it or remove it")
        if header.index(name) != position - 1:
            raise DataError(f"{path}: column '{name}' is there twice; rename or remove one")
    for name in required:
        if name not in header:
            meant = nearest(name, header) or f"; the columns are {', '.join(header[:20])}"
            raise DataError(f"{path}: column '{name}' is missing{meant}")
    for name in header if known is not None else ():
        if name not in (known or ()):
            raise DataError(f"{path}: unknown column '{name}'{nearest(name, known or ())}")
    return header


def _refuse_wrong_delimiter(
    path: str | Path, header: list[str], delimiter: str, required: Collection[str]
) -> None:
    if len(header) > 1 and all(name in header for name in required):
        return
    line = header[0] if len(header) == 1 else delimiter.join(header)
    counts = {mark: line.count(mark) for mark in DELIMITERS if mark != delimiter}
    mark, often = max(counts.items(), key=lambda item: item[1])
    if often > 0 and often > len(header) - 1:
        asked = DELIMITERS.get(delimiter, repr(delimiter))
        raise DataError(
            f"{path}: columns seem to be separated by {DELIMITERS[mark]}, not {asked}; "
            f"save it with {asked}"
        )


def _ragged(
    path: str | Path, line_no: int, cells: list[str], header: list[str], delimiter: str
) -> str:
    has, needs = len(cells), len(header)
    about = f"{path}: row at line {line_no}: {has} cells where the header has {needs}"
    if has < needs:
        return f"{about}; column '{header[has]}' and what follows are missing"
    return f"{about}; quote cells that hold a {delimiter!r}"


def _not_a_number(text: str) -> str:
    if not text:
        return "is empty; a number is needed"
    if text.lower().lstrip("+-") in ("nan", "inf", "infinity", "na", "n/a", "null", "none"):
        return f"'{text}' is not a finite number; leave out rows that were not measured"
    if _PLAIN_NUMBER.fullmatch(text.replace(",", ".")):
        return f"'{text}' is not a number; write the decimal mark as a point"
    return f"'{text[:40]}' is not a number"
