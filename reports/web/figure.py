"""A figure is a table and a way to draw it, so that what is drawn can always be downloaded.

Values are in SI units; the browser writes them with prefixes (static/figure.js). The same figure
is drawn by the app, by the static pages, and is downloaded as CSV from the table itself.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

Cell = str | float | int | None

MARKS = ("bar", "line", "point", "parity")
"""Horizontal bars by category; lines over numbers; dots; predicted over measured."""


class Column(NamedTuple):
    """A heading, and the unit of its numbers ("" for text and plain counts)."""

    name: str
    title: str
    unit: str = ""


class Rule(NamedTuple):
    """A straight line across the figure."""

    axis: str
    """x or y: along which axis `value` lies."""
    value: float
    label: str


class Figure(NamedTuple):
    """What is drawn, from which columns, in which way."""

    name: str
    """Of the files it is downloaded as."""
    title: str
    mark: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    x: str
    y: str
    color: str = ""
    """Column that tells series, or kinds of bar, apart."""
    strong: str = ""
    """The one series that must not be overlooked."""
    low: str = ""
    high: str = ""
    """Columns of an interval: around x of bars, around y of lines."""
    log_x: bool = False
    log_y: bool = False
    stacked: bool = False
    overlaid: bool = False
    """Bars of one category on one line: what goes left and what goes right of zero."""
    rules: tuple[Rule, ...] = ()
    caption: str = ""

    @property
    def empty(self) -> bool:
        """True where no row has both coordinates."""
        places = [self.place(self.x), self.place(self.y)]
        return not any(all(row[at] is not None for at in places) for row in self.rows)

    def place(self, name: str) -> int:
        """Index of a column."""
        return [column.name for column in self.columns].index(name)


def figure(
    name: str,
    title: str,
    mark: str,
    columns: Sequence[tuple[str, ...]],
    rows: Iterable[Sequence[Any]],
    **how: Any,
) -> Figure:
    """A figure with its cells as plain Python values; no number where there is none."""
    made = tuple(Column(*each) for each in columns)
    kept = tuple(tuple(_cell(value) for value in row) for row in rows)
    return Figure(name, title, mark, made, kept, **how)


def _cell(value: Any) -> Cell:
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    if not math.isfinite(number):
        return None
    return int(number) if number.is_integer() and abs(number) < 2**53 else number


def document(drawn: Figure) -> dict[str, Any]:
    """What the browser draws from."""
    made = drawn._asdict()
    made["columns"] = [column._asdict() for column in drawn.columns]
    made["rules"] = [rule._asdict() for rule in drawn.rules]
    made["rows"] = [list(row) for row in drawn.rows]
    return made


def csv_text(drawn: Figure) -> str:
    """The table as CSV, with each unit in its heading."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([f"{c.title} ({c.unit})" if c.unit else c.title for c in drawn.columns])
    writer.writerows([["" if cell is None else cell for cell in row] for row in drawn.rows])
    return stream.getvalue()
