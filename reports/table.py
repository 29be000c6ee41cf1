"""Plain tables of text for the terminal."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], left: Collection[str] = ()
) -> Table:
    """A table with columns to the right but for those named in `left`."""
    drawn = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        drawn.add_column(name, justify="left" if name in left else "right", overflow="fold")
    for row in rows:
        drawn.add_row(*row)
    return drawn
