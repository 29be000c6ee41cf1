"""The report as one HTML page that needs no other file: style, figures and tables inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from reports.validate.table import Section, Table, printed, units

STYLE = """
:root{color-scheme:light dark;--line:#d5d8dc;--soft:#f5f6f7;--ink:#1b1f23;--back:#fff}
@media(prefers-color-scheme:dark){:root{--line:#3a3f45;--soft:#1f2327;--ink:#e4e6e8;--back:#15181b}}
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:1100px;padding:1.5rem;
color:var(--ink);background:var(--back)}
h1{font-size:1.6rem}h2{margin-top:2.4rem;border-bottom:1px solid var(--line);font-size:1.25rem}
.scroll{overflow-x:auto;max-height:34rem;margin:1rem 0}
table{border-collapse:collapse;font-size:.86rem;font-variant-numeric:tabular-nums}
th{position:sticky;top:0;background:var(--soft)}
td,th{padding:.2rem .6rem;border-bottom:1px solid var(--line);text-align:right;vertical-align:top}
td.text,th.text{text-align:left}
figure{margin:1rem 0;background:#fff;padding:.3rem;overflow-x:auto}
figure svg{max-width:100%;height:auto}
nav a{margin-right:1rem}
"""


def html(
    title: str,
    sections: Sequence[Section],
    figures: Mapping[str, str],
    introduction: Sequence[str] = (),
) -> str:
    """The whole report."""
    links = "".join(f'<a href="#{s.name}">{escape(s.title)}</a>' for s in sections)
    body = "".join(_section(section, figures) for section in sections)
    opening = "".join(f"<p>{marked(text)}</p>" for text in introduction)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<h1>{escape(title)}</h1>{opening}<nav>{links}</nav>{body}</body></html>\n"
    )


def _section(section: Section, figures: Mapping[str, str]) -> str:
    text = "".join(_paragraph(one) for one in section.text)
    drawn = "".join(f"<figure>{_inline(figures[name])}</figure>" for name in section.figures)
    tables = "".join(_table(one) for one in section.tables)
    return f'<h2 id="{section.name}">{escape(section.title)}</h2>{text}{drawn}{tables}'


def _paragraph(text: str) -> str:
    if text.startswith("- "):
        items = "".join(f"<li>{marked(line[2:])}</li>" for line in text.split("\n"))
        return f"<ul>{items}</ul>"
    return f"<p>{marked(text)}</p>"


def marked(text: str) -> str:
    """Escaped text in which **bold** and `code` are kept."""
    pieces = escape(text, quote=False).split("**")
    bold = "".join(f"<b>{one}</b>" if index % 2 else one for index, one in enumerate(pieces))
    coded = bold.split("`")
    return "".join(f"<code>{one}</code>" if index % 2 else one for index, one in enumerate(coded))


def _inline(svg: str) -> str:
    return svg[svg.index("<svg") :]


def _table(made: Table) -> str:
    kinds = ["text" if column.form == "text" else "n" for column in made.columns]
    heads = "".join(
        f'<th class="{kind}">{escape(units(column))}</th>'
        for kind, column in zip(kinds, made.columns, strict=True)
    )
    rows = "".join(_row(made, kinds, row) for row in made.rows)
    caption = f"<p>{marked(made.caption)}</p>" if made.caption else ""
    return (
        f'{caption}<div class="scroll"><table><thead><tr>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _row(made: Table, kinds: Sequence[str], row: Sequence[object]) -> str:
    cells = "".join(
        f'<td class="{kind}">{escape(printed(cell, column.form))}</td>'  # type: ignore[arg-type]
        for kind, column, cell in zip(kinds, made.columns, row, strict=True)
    )
    return f"<tr>{cells}</tr>"
