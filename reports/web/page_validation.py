"""Validation: how far predictions are from what was measured, by system, engine, model and load."""

from __future__ import annotations

import streamlit as st

from analyzer.units import show as quantity
from reports.web import markup, validated
from reports.web.draw import draw, side_by_side
from reports.web.frame import complain, html
from reports.web.predicted import Card
from reports.web.state import Choice, Field
from reports.web.widgets import read, settle, widgets

PAGE = "validation"
AXES = {"tokens": "prompt and answer", "batch": "sequences", "devices": "devices"}


def fields(points: validated.Points) -> tuple[Field, ...]:
    """The filters; what they offer is what was measured."""
    all_of = {name: (validated.ALL, *points.known(name)) for name in ("system", "engine")}
    return (
        Choice("metric", "Metric", "e2e", lambda: tuple(validated.METRICS),
               shown=validated.METRICS.__getitem__),
        Choice("load", "Load", "fixed batch", lambda: validated.LOADS),
        Choice("system", "System", validated.ALL, lambda: all_of["system"]),
        Choice("engine", "Engine", validated.ALL, lambda: all_of["engine"]),
        Choice("way", "Predictions", "held_out_s", lambda: tuple(validated.WAYS),
               shown=validated.WAYS.__getitem__),
        Choice("axis", "Ratio against", "tokens", lambda: tuple(AXES), shown=AXES.__getitem__),
    )  # fmt: skip


def show() -> None:
    """The page."""
    points = validated.load()
    asked = fields(points)
    read(PAGE, asked)
    with st.sidebar:
        widgets(PAGE, asked)
    values, problems = settle(PAGE, asked)
    complain(problems)
    some = validated.chosen(points, values)
    if not len(some):
        st.info("Nothing was measured that all of these filters leave.")
        return
    html(markup.cards(cards(some, values["way"])))
    draw(validated.by_group(some, values["way"]))
    side_by_side([validated.parity(some, values), validated.ratios(some, values)])
    html(markup.heading("The worst row of each system, engine and model"))
    rows = validated.worst(some, values["way"], lambda value: quantity(value, "time", 3))
    html(markup.table(validated.WORST_HEADS, rows, texts=3))
    html(markup.sentence("; ".join(validated.DEFINITIONS) + ".", soft=True))


def cards(some: validated.Points, way: str) -> list[Card]:
    """The errors in large type."""
    found = validated.errors(some, way)
    groups = set(zip(some.texts["system"].tolist(), some.texts["engine"].tolist(), strict=True))
    said = f"{validated.WAYS[way]}; {found.rows:,} rows"
    return [
        Card("Geomean error", f"{found.geomean:.1%}", said),
        Card("Median error", f"{found.median:.1%}", "half of all rows are closer"),
        Card("p90 error", f"{found.p90:.1%}", "nine tenths of all rows are closer"),
        Card("Bias", f"{found.bias:+.1%}", "above 0: predicted too slow"),
        Card("Within 10 %", f"{found.within_10:.0%}", "of all rows"),
        Card(
            "Models",
            f"{len(some.known('model')):,}",
            f"in {len(groups)} groups of one system and engine",
        ),
    ]
