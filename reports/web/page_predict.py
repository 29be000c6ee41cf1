"""Predict: one scenario, with its breakdown, its memory, its interval and what that rests on."""

from __future__ import annotations

import streamlit as st

from analyzer.answer import Answer
from reports.web import fields, markup, predicted
from reports.web.asking import ask, command
from reports.web.draw import draw, side_by_side
from reports.web.frame import complain, html
from reports.web.state import Values
from reports.web.widgets import read, settle, widgets

PAGE = "predict"
FIRST = (fields.MODEL, fields.SYSTEM, *fields.LOAD)
FIELDS = (*FIRST, *fields.LAYOUT, *fields.SOFTWARE)


def show() -> None:
    """The page."""
    read(PAGE, FIELDS)
    with st.sidebar:
        widgets(PAGE, FIRST)
        with st.expander("Layout"):
            widgets(PAGE, fields.LAYOUT)
        with st.expander("Formats, engine, rates"):
            widgets(PAGE, fields.SOFTWARE)
    values, problems = settle(PAGE, FIELDS)
    complain(problems)
    found = ask(values)
    _answer(found)
    _trust(found)
    _command(values, found)


def _answer(found: Answer) -> None:
    listed, remarks = predicted.explained(found)
    html(markup.sentence(f"{predicted.headline(found)}."))
    html(markup.cards(predicted.cards(found)))
    html(markup.notes(found.warnings) + markup.sentence(" ".join(remarks), soft=True))
    side_by_side(predicted.operators(found, listed))
    draw(predicted.memory(found))
    draw(predicted.batches(found))


def _trust(found: Answer) -> None:
    html(markup.heading("What this rests on") + markup.sentence(predicted.basis(found)))
    scores = predicted.scores(found)
    if scores:
        heads = ("geomean error", "rows", "models", "in-sample", "model held out")
        html(markup.table(heads, scores))
    seen = predicted.seen(found)
    if seen:
        with st.expander("What the calibration saw, beside what is asked"):
            html(markup.table(("", "measured", "asked"), seen, texts=3))


def _command(values: Values, found: Answer) -> None:
    with st.expander("The same on the command line"):
        st.code(command(values, found), language="sh")
