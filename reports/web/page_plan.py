"""Plan under a promise: every legal layout of a model on some systems, the best, and the front."""

from __future__ import annotations

import streamlit as st

from analyzer.search import OBJECTIVES, Found, search
from reports.deploy import Served, launch
from reports.web import fields, markup, planned
from reports.web.draw import draw
from reports.web.frame import complain, html, refuse
from reports.web.limits import turn
from reports.web.state import Choice, Flag, Real, Several, Whole
from reports.web.widgets import read, settle, widgets

PAGE = "plan"
MODEL = fields.named("llama-3.1-70b")
SYSTEMS = Several("systems", "Systems on offer", ("H100-SXM", "H200-SXM"), fields.systems, 6)
INPUT = Whole("input", "Prompt, tokens", 2048, 1, 1_000_000)
OUTPUT = Whole("output", "Answer, tokens", 256, 1, 131_072)
TTFT = Real("ttft_ms", "First token within, ms", 1000.0, 0.01, 1e8, optional=True)
TPOT = Real("tpot_ms", "Each token within, ms", 40.0, 0.001, 1e7, optional=True)
E2E = Real("e2e_ms", "Whole answer within, ms", None, 0.01, 1e9, optional=True)
DEVICES = Whole("devices", "Devices at most", 8, 1, 512)
OBJECTIVE = Choice(
    "objective", "Best is", "device", lambda: tuple(OBJECTIVES),
    shown=planned.OBJECTIVE_TITLES.__getitem__,
)  # fmt: skip
FORMATS = Several("formats", "Formats of the weights", (), lambda: fields.formats()[1:], 3,
                  "None: as released. Narrower ones change what the model answers.")  # fmt: skip
USD = Real("usd", "Dollars per hour at most", None, 0.01, 1e7, optional=True)
SURELY = Flag("surely", "Promise holds at the interval's upper end", False)
SPLIT = Flag("split", "Separate prefill workers too", False)
FIRST = (MODEL, SYSTEMS, INPUT, OUTPUT, TTFT, TPOT, DEVICES, OBJECTIVE)
MORE = (E2E, USD, FORMATS, SURELY, SPLIT, fields.ENGINE)
FIELDS = (*FIRST, *MORE)


def show() -> None:
    """The page."""
    read(PAGE, FIELDS)
    with st.sidebar, st.form("asked", border=False):
        st.form_submit_button("Search", type="primary", width="stretch")
        widgets(PAGE, FIRST)
        with st.expander("More"):
            widgets(PAGE, MORE)
    values, problems = settle(PAGE, FIELDS)
    complain(problems)
    with turn():
        found = search(planned.bounded(planned.question(values)))
    best = found.best()
    if best is None:
        refuse(planned.refusal(found))
    else:
        _winner(found, best)
    draw(planned.front(found))
    _losers(found)


def _winner(found: Found, best: int) -> None:
    html(markup.sentence(
        f"Of {found.plans:,} plans {int(found.keeps.sum()):,} keep the promise; the best by "
        f"{planned.OBJECTIVE_TITLES[found.question.objective]}:"
    ))  # fmt: skip
    html(markup.cards(planned.cards(found, best)))
    html(markup.notes(found.answer(best).warnings))
    html(markup.table(planned.HEADS, planned.best(found), texts=2))
    if found.columns.prefill[best] < 0:
        with st.expander("How to deploy it"):
            _deployment(found, best)


def _deployment(found: Found, best: int) -> None:
    question = found.question
    made = launch(
        Served(
            question.model, found.system(best), found.plan(best),
            int(found.columns.batch[best]), question.input_tokens + question.output_tokens,
        ),
        planned.SERVER,
    )  # fmt: skip
    st.code(made.line, language="sh")
    html(markup.notes(made.notes))


def _losers(found: Found) -> None:
    reasons = planned.lost(found)
    if reasons:
        with st.expander("Why the others lost"):
            html(markup.table(("reason", "plans", "only for that"), reasons))
