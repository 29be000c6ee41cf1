"""Pages that open from a file: one self-contained HTML file each, no server and no network."""

from __future__ import annotations

import json
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from analyzer.errors import ConfigError
from reports.files import replacing
from reports.web.markup import asset
from reports.web.static_compare import comparison
from reports.web.static_validation import validation

PAGES: dict[str, tuple[str, str, Callable[[], dict[str, Any]]]] = {
    "validation": ("Validation", "How far predictions are from what was measured.", validation),
    "compare": ("Compare", "Use cases, models, systems and technologies side by side.", comparison),
}
"""File → title, what it says, and what it draws from."""


def build(folder: str | Path) -> list[Path]:
    """Write every page and the one that lists them; returns their paths."""
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be made: {error.strerror}") from None
    made = {
        f"{name}.html": page(name, title, about, make())
        for name, (title, about, make) in PAGES.items()
    }
    made["index.html"] = index()
    return [_write(target / name, text) for name, text in made.items()]


def page(name: str, title: str, about: str, data: dict[str, Any]) -> str:
    """One page with its style, its script and its data inside."""
    # "<" inside the data could end the script early; as an escape it cannot.
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False).replace("<", "\\u003c")
    script = f"{asset('figure.js')}\n{asset('site.js')}\n{asset(f'site_{name}.js')}"
    body = (
        f'<h1 class="pl-title">{escape(title)}</h1><p class="pl-sentence">{escape(about)}</p>'
        '<form id="asked"></form><main id="shown"></main>'
        f'<script type="application/json" id="data">{text}</script>'
        f'<script type="module">{script}\nstart();</script>'
    )
    return _whole(title, body)


def index() -> str:
    """The page that lists the others."""
    items = "".join(
        f'<li><a href="{name}.html">{escape(title)}</a>: {escape(about)}</li>'
        for name, (title, about, _) in PAGES.items()
    )
    return _whole(
        "Plumbline",
        f'<h1 class="pl-title">Plumbline</h1><ul class="pl-list">{items}</ul>'
        '<p class="pl-sentence soft">These pages need no server and no network. '
        "<code>plumbline web</code> serves them with everything else: predictions of your own "
        "scenarios, plans under a promise, simulated serving.</p>",
    )


def _whole(title: str, body: str) -> str:
    links = "".join(
        f'<a href="{name}.html">{escape(shown)}</a>' for name, (shown, _, _) in PAGES.items()
    )
    style = "".join(asset(name) for name in ("figure.css", "page.css", "site.css"))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<link rel="icon" href="data:,">'
        f"<title>{escape(title)} · Plumbline</title><style>{style}</style></head>"
        f'<body><nav><a href="index.html">Plumbline</a>{links}</nav>{body}</body></html>\n'
    )


def _write(path: Path, text: str) -> Path:
    with replacing(path) as stream:
        stream.write(text)
    return path
