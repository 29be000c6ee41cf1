"""Pieces of HTML that the app and the static pages share; every text in them is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from reports.web.predicted import Card

STATIC = Path(__file__).parent / "static"


def asset(name: str) -> str:
    """A file of the folder `static`, as text."""
    return (STATIC / name).read_text(encoding="utf-8")


def cards(made: Iterable[Card]) -> str:
    """Figures in large type, as many beside each other as the width allows."""
    return f'<div class="pl-cards">{"".join(map(_card, made))}</div>'


def _card(card: Card) -> str:
    return (
        f'<div class="pl-card"><div class="pl-label">{escape(card.label)}</div>'
        f'<div class="pl-value">{escape(card.value)}</div>'
        f'<div class="pl-note">{escape(card.note)}</div></div>'
    )


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], texts: int = 1) -> str:
    """A table whose first `texts` columns are text and whose others are figures."""
    top = "".join(
        f'<th class="{_kind(at, texts)}">{escape(head)}</th>' for at, head in enumerate(heads)
    )
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="{_kind(at, texts)}">{escape(cell)}</td>' for at, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return (
        '<div class="pl-scroll"><table class="pl-table"><thead><tr>'
        f"{top}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _kind(place: int, texts: int) -> str:
    return "text" if place < texts else "number"


def sentence(text: str, soft: bool = False) -> str:
    """One paragraph."""
    return f'<p class="pl-sentence{" soft" if soft else ""}">{escape(text)}</p>'


def notes(texts: Iterable[str]) -> str:
    """Warnings, one a line; nothing where there are none."""
    lines = "".join(f"<li>{escape(text)}</li>" for text in texts)
    return f'<ul class="pl-notes">{lines}</ul>' if lines else ""


def heading(text: str) -> str:
    """The title of a part of a page."""
    return f'<h2 class="pl-heading">{escape(text)}</h2>'
