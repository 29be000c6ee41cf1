"""Tables of the validation report: raw numbers, rounded once, with how they are to be printed.

The same rounded numbers go into numbers.json, Markdown and HTML, so that what is printed is what is
stored, and regenerating from the same data gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

Cell = str | int | float | None
DIGITS = 4


class Column(NamedTuple):
    """A heading and how its cells are printed."""

    title: str
    form: str = "text"


class Table(NamedTuple):
    """A named table with cells as stored."""

    name: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    caption: str = ""


class Section(NamedTuple):
    """One heading of the report and what stands below it."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    figures: tuple[str, ...] = ()
    """Names of the figures, without their ending."""
    page: str = "README"
    """The Markdown file that it stands in."""


def table(
    name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], caption: str = ""
) -> Table:
    """A table; a column is given as "title" or "title:form"."""
    made = tuple(Column(*text.rsplit(":", 1)) for text in columns)
    kept = tuple(tuple(rounded(cell) for cell in row) for row in rows)
    return Table(name, made, kept, caption)


def rounded(cell: Cell) -> Cell:
    """Four significant digits; no number where there is none."""
    if cell is None or isinstance(cell, str | int):
        return cell
    value = float(cell)
    if not math.isfinite(value):
        return None
    return float(f"{value:.{DIGITS}g}") + 0.0


NOTHING = "–"


def percent(value: float) -> str:
    """12.3 %, with fewer decimals for large figures and more for small ones."""
    share = 100.0 * value
    decimals = 0 if abs(share) >= 99.95 else 1 if abs(share) >= 0.995 else 2
    return f"{share:.{decimals}f}"


FORMS: dict[str, Callable[[float], str]] = {
    "percent": percent,
    "signed": lambda value: ("+" if value > 0 else "") + percent(value) if value else "0",
    "count": lambda value: f"{value:,.0f}",
    "number": lambda value: f"{value:.4g}",
    "ms": lambda value: f"{1e3 * value:.4g}",
}


def printed(cell: Cell, form: str) -> str:
    """A cell as people read it."""
    if cell is None:
        return NOTHING
    if isinstance(cell, str):
        return cell
    return FORMS[form](float(cell)) if form in FORMS else str(cell)


def units(column: Column) -> str:
    """The heading with its unit."""
    unit = {"percent": " %", "signed": " % (signed)", "ms": " ms"}.get(column.form, "")
    return f"{column.title}{unit}"
