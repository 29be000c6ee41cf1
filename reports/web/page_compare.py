"""Compare: use cases, models, systems or technologies side by side."""

from __future__ import annotations

import streamlit as st

from analyzer.use_cases import USE_CASES
from reports.web import compared, fields, markup
from reports.web.draw import draw, side_by_side
from reports.web.frame import complain, html
from reports.web.state import Choice, Field, Real, Several, Values, Whole
from reports.web.technologies import TECHNOLOGIES
from reports.web.widgets import read, settle, widgets

PAGE = "compare"
MOST = 10
BY = Choice("by", "Compare", "use cases", lambda: tuple(compared.KINDS))
CASES = Several(
    "cases", "Use cases",
    ("chat", "qa", "rag", "summarization", "code"),
    lambda: tuple(USE_CASES), MOST,
)  # fmt: skip
MODELS = Several(
    "models", "Models",
    ("llama-3-8b", "llama-3-70b", "mixtral-8x7b", "qwen3-32b"),
    fields.models, MOST,
)  # fmt: skip
SYSTEMS = Several(
    "systems", "Systems",
    ("A100-SXM-80GB", "H100-SXM", "H200-SXM", "B200-SXM-180GB", "MI300X"),
    fields.systems, MOST,
)  # fmt: skip
PARTS = Several(
    "technologies", "Technologies",
    ("hbm2e", "hbm3", "hbm3e", "hbm4", "fp8", "int4"),
    lambda: tuple(TECHNOLOGIES), MOST,
)  # fmt: skip
STACKS = Whole("stacks", "Memory stacks per device", 5, 1, 16, "An H100 SXM has five of HBM3.")
PROMISE = Real(
    "ttft_ms", "First token promised within, ms", None, 0.1, 1e7,
    "Draws a line; leave it empty for none.", optional=True,
)  # fmt: skip
MODEL = fields.named("llama-3.1-8b")
ASKED: dict[str, tuple[Field, ...]] = {
    "use cases": (CASES, MODEL, fields.SYSTEM),
    "models": (MODELS, fields.SYSTEM, fields.INPUT, fields.OUTPUT),
    "systems": (SYSTEMS, MODEL, fields.INPUT, fields.OUTPUT),
    "technologies": (PARTS, MODEL, fields.SYSTEM, fields.INPUT, fields.OUTPUT, STACKS),
}
"""What each kind of comparison asks for."""
SHARED = (fields.BATCH, fields.ARRIVAL)
MORE = (fields.TP, fields.PP, fields.WEIGHTS, fields.KV, fields.ENGINE, fields.BASIS, PROMISE)
FIELDS = tuple(
    dict.fromkeys((BY, *(each for some in ASKED.values() for each in some), *SHARED, *MORE))
)


def show() -> None:
    """The page."""
    read(PAGE, FIELDS)
    with st.sidebar:
        widgets(PAGE, (BY,))
        widgets(PAGE, (*ASKED[st.session_state[f"{PAGE}.by"]], *SHARED))
        with st.expander("Layout, formats, engine"):
            widgets(PAGE, MORE)
    values, problems = settle(PAGE, FIELDS)
    complain(problems)
    found = compared.entries(values)
    complain(f"{one.name}: {one.problem}" for one in found if one.answer is None)
    if not any(one.answer for one in found):
        st.info("Choose at least one thing to compare that has an answer.")
        return
    _drawn(found, values)


def _drawn(found: list[compared.Entry], values: Values) -> None:
    html(markup.sentence(_headline(found, values)))
    html(markup.table(compared.HEADS, compared.rows(found), texts=3))
    side_by_side(compared.times(found)[:2])
    side_by_side([compared.times(found)[2], *compared.rates(found)])
    draw(compared.balance(found, values))
    draw(compared.growth(found))
    _small_print(found, values)


def _headline(found: list[compared.Entry], values: Values) -> str:
    fixed = {
        "use cases": f"{values['model']} on {values['system']}",
        "models": f"on {values['system']}",
        "systems": f"{values['model']}",
        "technologies": f"{values['model']} on {values['system']}, one part replaced at a time",
    }
    lengths = (
        ""
        if values["by"] == "use cases"
        else (f", {values['input']:,} tokens in, {values['output']:,} out")
    )
    return (
        f"{len(found)} {values['by']} side by side: {fixed[values['by']]}, "
        f"batch {values['batch']:,}{lengths}."
    )  # fmt: skip


def _small_print(found: list[compared.Entry], values: Values) -> None:
    if values["by"] == "technologies":
        html(markup.sentence(
            "Machines with a part replaced were never measured: the software is taken to reach the "
            "same shares of the new peaks. They have no interval.", soft=True,
        ))  # fmt: skip
        with st.expander("Where the technologies' figures come from"):
            html(markup.table(("technology", "kind", "source"), [
                (part.title, part.kind, part.source) for part in TECHNOLOGIES.values()
            ], texts=3))  # fmt: skip
    warned = [(one.name, warning) for one in found if one.answer for warning in one.answer.warnings]
    if warned:
        with st.expander("What to know about each prediction"):
            html(markup.table(("", "note"), warned, texts=2))
