"""The report as Markdown: one file per page, with relative links to the figures."""

from __future__ import annotations

from collections.abc import Sequence

from reports.validate.table import Column, Section, Table, printed, units


def page(title: str, sections: Sequence[Section], introduction: Sequence[str] = ()) -> str:
    """One file."""
    parts = [f"# {title}", *introduction]
    for section in sections:
        parts.append(f"## {section.title}")
        parts.extend(section.text)
        parts.extend(f"![{name}]({name}.svg)" for name in section.figures)
        parts.extend(_table(made) for made in section.tables)
    return "\n\n".join(parts) + "\n"


def _table(made: Table) -> str:
    heads = [_escaped(units(column)) for column in made.columns]
    rules = ["---" if column.form == "text" else "---:" for column in made.columns]
    lines = [_line(heads), _line(rules)]
    lines.extend(_line(_cells(made.columns, row)) for row in made.rows)
    caption = f"{made.caption}\n\n" if made.caption else ""
    return caption + "\n".join(lines)


def _cells(columns: tuple[Column, ...], row: Sequence[object]) -> list[str]:
    return [
        _escaped(printed(cell, column.form))  # type: ignore[arg-type]
        for column, cell in zip(columns, row, strict=True)
    ]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
