"""A CSV of scenarios in, the same rows with predicted columns out.

The table is streamed in blocks, so a million rows take no more memory than some ten thousand. The
output appears whole or not at all. Text that a spreadsheet would run as a formula is quoted.
"""

from __future__ import annotations

import csv
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from analyzer.basis import calibrated
from analyzer.errors import InputError
from analyzer.scenarios.columns import REQUIRED, Key, Reader
from analyzer.scenarios.groups import Choose, Group, resolve
from analyzer.scenarios.rows import METRICS, Outcome, answer_rows
from analyzer.strict_csv import read_csv_rows
from analyzer.units import GB
from reports.files import replacing

BLOCK = 50_000
"""Rows in memory at a time."""
_UNITS = {"_mem_B": ("_mem_gb", 1.0 / GB), "_tok_s": ("_tok_s", 1.0), "_s": ("_ms", 1e3)}
_BOUNDS = ("", "_lo", "_hi")
_FORMULA = "=+-@\t\r"
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

Cells = dict[str, str]
Numbered = tuple[int, Cells]


class Tally(NamedTuple):
    """How many rows were read, and how many of them lack figures that were asked for."""

    rows: int
    with_problem: int


class _Column(NamedTuple):
    """A predicted column of the output."""

    title: str
    metric: str
    factor: float


def _columns() -> list[_Column]:
    listed = []
    for metric in METRICS:
        ending = next(end for end in _UNITS if metric.endswith(end))
        written, factor = _UNITS[ending]
        name = metric.removesuffix(ending) + written
        listed += [_Column(f"pred_{name}{end}", f"{metric}{end}", factor) for end in _BOUNDS]
    return listed


COLUMNS = _columns()
ADDED = (*(column.title for column in COLUMNS), "pred_calibration", "pred_note", "problem")


def predict_csv(source: str | Path, target: str | Path, choose: Choose = calibrated) -> Tally:
    """Predict every row of `source` into `target`; rows that cannot be get their reason."""
    rows = read_csv_rows(source, required=REQUIRED)
    first = next(rows)
    kept = [name for name in first[1] if name not in ADDED]
    table = _Table(Reader(str(source), list(first[1])), choose)
    counted = problems = 0
    with replacing(target) as stream:
        csv.writer(stream, lineterminator="\n").writerow([*kept, *ADDED])
        for block in _blocks(first, rows):
            lines = table.predict(block)
            counted += len(lines)
            problems += sum(bool(line[-1]) for line in lines)
            _write(stream, [cells for _, cells in block], kept, lines)
    return Tally(counted, problems)


def _blocks(first: Numbered, rows: Iterator[Numbered]) -> Iterator[list[Numbered]]:
    block = [first, *islice(rows, BLOCK - 1)]
    while block:
        yield block
        block = list(islice(rows, BLOCK))


class _Table:
    """Groups met so far, so that names are looked up once in a table."""

    def __init__(self, reader: Reader, choose: Choose) -> None:
        self._reader = reader
        self._choose = choose
        self._groups: dict[Key, Group | str] = {}

    def predict(self, block: list[Numbered]) -> list[list[str]]:
        """Added cells of every row of a block, in its order."""
        members: dict[Key, list[int]] = defaultdict(list)
        for position, (_, cells) in enumerate(block):
            members[self._reader.key(cells)].append(position)
        lines: list[list[str]] = [[]] * len(block)
        for key, positions in members.items():
            group = self._group(key)
            if isinstance(group, str):
                answered = [_refused(group)] * len(positions)
            else:
                loads = [self._reader.load(*block[position]) for position in positions]
                answered = _cells(group, answer_rows(group, loads))
            for position, line in zip(positions, answered, strict=True):
                lines[position] = line
        return lines

    def _group(self, key: Key) -> Group | str:
        if key not in self._groups:
            self._groups[key] = self._resolved(key)
        return self._groups[key]

    def _resolved(self, key: Key) -> Group | str:
        reader = self._reader
        try:
            scenario = reader.scenario(key)
            return resolve(
                scenario, reader.cell(key, "source"), reader.cell(key, "date"), self._choose
            )
        except InputError as error:
            return str(error)


def _refused(problem: str) -> list[str]:
    return [*[""] * (len(ADDED) - 1), problem]


def _cells(group: Group, outcome: Outcome) -> list[list[str]]:
    """The added cells of a group's rows."""
    rows = len(outcome.problems)
    figures = [_texts(outcome, column, rows) for column in COLUMNS]
    basis = [group.basis.label] * rows
    columns = (*figures, basis, outcome.notes, outcome.problems)
    return [list(line) for line in zip(*columns, strict=True)]


def _texts(outcome: Outcome, column: _Column, rows: int) -> list[str]:
    values = outcome.columns.get(column.metric)
    if values is None:
        return [""] * rows
    scaled = (np.asarray(values) * column.factor).tolist()
    return ["" if math.isnan(value) else f"{value:.7g}" for value in scaled]


def _write(stream: IO[str], cells: list[Cells], kept: list[str], lines: list[list[str]]) -> None:
    writer = csv.writer(stream, lineterminator="\n")
    safe: dict[str, str] = {}
    for row, line in zip(cells, lines, strict=True):
        given = [row[name] for name in kept]
        for position, text in enumerate(given):
            if text and text[0] in _FORMULA:
                given[position] = safe.setdefault(text, harmless(text))
        writer.writerow([*given, *line])


def harmless(text: str) -> str:
    """`text` with a quotation mark before it where a spreadsheet would take it for a formula."""
    if not text or text[0] not in _FORMULA or _NUMBER.fullmatch(text):
        return text
    return f"'{text}"
