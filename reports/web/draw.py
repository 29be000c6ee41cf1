"""Puts figures on a page of the app. One component draws them all (static/figure.js)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from reports.web.figure import Figure, document
from reports.web.markup import asset

_MOUNT = """
export default function ({ data, parentElement }) {
  const home = parentElement.querySelector(".home");
  if (home.ended) home.ended();
  home.ended = mount(home, data);
  return () => { if (home.ended) { home.ended(); home.ended = null; } };
}
"""
_component: Any = st.components.v2.component(
    "plumbline_figure",
    html='<div class="home"></div>',
    css=asset("figure.css"),
    js=asset("figure.js") + _MOUNT,
)


def draw(figure: Figure, key: str = "") -> None:
    """One figure, as wide as there is room; a sentence where it has nothing to show."""
    if figure.empty:
        st.caption(f"{figure.title}: there is nothing to draw.")
        return
    _component(data=document(figure), key=key or figure.name)


def side_by_side(figures: Sequence[Figure], columns: int = 2, at: str = "") -> None:
    """Figures in rows, which a phone shows one below the other.

    `at` tells the same figures apart where one run draws them several times.
    """
    for start in range(0, len(figures), columns):
        row = figures[start : start + columns]
        for place, figure in zip(st.columns(columns, gap="large"), row, strict=False):
            with place:
                draw(figure, f"{figure.name}{at}")
