"""Recorded traces: rows of (time, prompt tokens, answer tokens), read one at a time.

CSV (plain or .gz) and JSON lines are read. Columns go by the names that public traces use (Azure,
BurstGPT, Mooncake, ShareGPT length tables, LLM simulators); a column that is not known is left
alone, a known one that is missing is an error. Times may be seconds, milliseconds, nanoseconds
(said by the column's name) or dates.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from analyzer.errors import DataError
from analyzer.strict import TableSource, read_csv_rows

MOONCAKE_BLOCK_TOKENS = 512


class TraceRow(NamedTuple):
    """One request of a trace. `shared` names leading blocks: (name, end in tokens)."""

    time_s: float | None
    input_tokens: int
    output_tokens: int
    shared: tuple[tuple[int, int], ...] = ()


INPUT_NAMES = (
    "input_tokens",
    "contexttokens",
    "request tokens",
    "input_length",
    "input_toks",
    "num_prefill_tokens",
    "prompt_tokens",
    "prompt_len",
    "prompt_length",
)
OUTPUT_NAMES = (
    "output_tokens",
    "generatedtokens",
    "response tokens",
    "output_length",
    "output_toks",
    "num_decode_tokens",
    "completion_tokens",
    "output_len",
    "response_tokens",
    "generated_tokens",
)
TIME_SCALES = {
    "arrived_at": 1.0,
    "arrival_s": 1.0,
    "arrival_time_s": 1.0,
    "arrival_time": 1.0,
    "scheduled_s": 1.0,
    "timestamp": 1.0,
    "timestamp_s": 1.0,
    "timestamp_ms": 1e-3,
    "arrival_time_ms": 1e-3,
    "arrival_time_ns": 1e-9,
}
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)?")


def read_trace(path: str | Path) -> Iterator[TraceRow]:
    """Yield the rows of a trace; DataError names file, line and column of what is wrong."""
    name = str(path)
    reader = _json_rows if name.endswith((".jsonl", ".json", ".ndjson")) else _csv_rows
    last = -float("inf")
    empty = True
    for source, cells in reader(name):
        row = _row(source, cells)
        if row.time_s is not None:
            if row.time_s < last:
                raise DataError(
                    f"{name}: line {source.line_no}: time goes back; sort the trace by its time"
                )
            last = row.time_s
        empty = False
        yield row
    if empty:
        raise DataError(f"{name}: has no rows")


def _csv_rows(name: str) -> Iterator[tuple[TableSource, dict[str, object]]]:
    for line_no, cells in read_csv_rows(name):
        yield (
            TableSource(path=name, line_no=line_no),
            {key.strip().lower(): text for key, text in cells.items()},
        )


def _json_rows(name: str) -> Iterator[tuple[TableSource, dict[str, object]]]:
    """One object a line; a whole file that is one list of objects is read too."""
    try:
        with open(name, encoding="utf-8-sig") as lines:
            first = lines.readline()
            if first.lstrip().startswith("["):
                rows = json.loads(first + lines.read())
                yield from _objects(name, enumerate(rows, 1))
                return
            numbered = enumerate(chain([first], lines), 1)
            yield from _objects(name, ((no, json.loads(x)) for no, x in numbered if x.strip()))
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{name}: not JSON lines: {error}") from None


def _objects(
    name: str, rows: Iterator[tuple[int, object]]
) -> Iterator[tuple[TableSource, dict[str, object]]]:
    for line_no, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{name}: line {line_no}: not an object with named fields")
        yield (
            TableSource(path=name, line_no=line_no),
            {str(key).strip().lower(): value for key, value in row.items()},
        )


def _row(source: TableSource, cells: dict[str, object]) -> TraceRow:
    prompt = _count(source, cells, INPUT_NAMES, "prompt tokens")
    answer = _count(source, cells, OUTPUT_NAMES, "answer tokens")
    return TraceRow(_time(source, cells), prompt, answer, _shared(source, cells, prompt))


def _count(source: TableSource, cells: dict[str, object], names: tuple[str, ...], what: str) -> int:
    found = [name for name in names if name in cells]
    if not found:
        raise DataError(
            f"{source.path}: no column with {what}; it has {', '.join(sorted(cells)[:12])}; "
            f"use one of {', '.join(names)}"
        )
    return int(source.number(found[0], str(cells[found[0]]), least=1, whole=True))


def _time(source: TableSource, cells: dict[str, object]) -> float | None:
    for name, scale in TIME_SCALES.items():
        if name not in cells:
            continue
        text = str(cells[name])
        date = _DATE.fullmatch(text.strip())
        if date is not None:
            return _seconds(source, name, date)
        # Mooncake's JSON lines count milliseconds under the plain name.
        factor = 1e-3 if name == "timestamp" and "hash_ids" in cells else scale
        return source.number(name, text) * factor
    return None


def _seconds(source: TableSource, column: str, date: re.Match[str]) -> float:
    day, clock, fraction, zone = date.groups()
    try:
        stamp = dt.datetime.fromisoformat(
            f"{day}T{clock}{(zone or '+00:00').replace('Z', '+00:00')}"
        )
    except ValueError as error:
        raise source.error(column, str(error)) from None
    # Azure writes seven digits, more than datetime takes.
    return stamp.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def _shared(
    source: TableSource, cells: dict[str, object], prompt: int
) -> tuple[tuple[int, int], ...]:
    names = cells.get("hash_ids")
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, int) for name in names):
        raise source.error("hash_ids", "not a list of whole numbers")
    whole = [int(name) for name in names[: prompt // MOONCAKE_BLOCK_TOKENS]]
    return tuple((name, (place + 1) * MOONCAKE_BLOCK_TOKENS) for place, name in enumerate(whole))
