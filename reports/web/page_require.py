"""Requirements and sensitivity: the machine that a promise needs, and what a better part buys."""

from __future__ import annotations

import msgspec
import streamlit as st

from analyzer.answer import Answer
from analyzer.requirements import Required, require
from analyzer.sensitivity import sensitivity
from analyzer.systems_catalog import load_system
from analyzer.use_cases import USE_CASES
from analyzer.workload import SLO
from reports.web import fields, markup, required
from reports.web.asking import Asked, settle_ranks
from reports.web.compared import lengths
from reports.web.draw import draw
from reports.web.frame import complain, html, sentences
from reports.web.predicted import headline
from reports.web.state import Choice, Real, Several, Values, Whole
from reports.web.widgets import read, settle, widgets

PAGE = "require"
OWN = "own"
MODEL = fields.named("llama-3.1-8b")
CASE = Choice(
    "case", "Use case", "chat", lambda: (*USE_CASES, OWN),
    "Lengths, beams and promises of a kind of use, or your own below.",
    shown=lambda name: USE_CASES[name].about if name in USE_CASES else "my own, below",
)  # fmt: skip
BATCH = Whole("batch", "Sequences at once", 1, 1, 65_536)
RANKS = Whole("ranks", "Devices that share it (tp)", 1, 1, 256)
METRIC = Choice("metric", "Sensitivity of", "e2e_s", lambda: tuple(required.METRICS),
                shown=required.METRICS.__getitem__)  # fmt: skip
SPREAD = Whole("spread", "Each figure moves by, %", 10, 1, 90)
BESIDE = Several("beside", "Beside", ("A100-SXM-80GB", "H100-SXM", "B200-SXM-180GB", "MI300X"),
                 fields.systems, 8)  # fmt: skip
OWN_FIELDS = (
    Whole("input", "Prompt, tokens", 1024, 1, 4_000_000),
    Whole("output", "Answer, tokens", 256, 1, 1_000_000),
    Real("ttft_ms", "First token within, ms", 500.0, 0.01, 1e8, optional=True),
    Real("tpot_ms", "Each token within, ms", 20.0, 0.001, 1e7, optional=True),
)
FIRST = (MODEL, fields.SYSTEM, CASE, BATCH, RANKS)
MORE = (fields.WEIGHTS, fields.KV, fields.ENGINE, fields.BASIS)
FIELDS = (*FIRST, METRIC, SPREAD, BESIDE, *OWN_FIELDS, *MORE)


def show() -> None:
    """The page."""
    read(PAGE, FIELDS)
    with st.sidebar:
        widgets(PAGE, FIRST)
        if st.session_state[f"{PAGE}.case"] == OWN:
            widgets(PAGE, OWN_FIELDS)
        widgets(PAGE, (METRIC, SPREAD, BESIDE))
        with st.expander("Formats, engine, rates"):
            widgets(PAGE, MORE)
    values, problems = settle(PAGE, FIELDS)
    complain(problems)
    asked = question(values)
    with sentences():
        _needs(asked, values)
    html(markup.heading("What a better part would buy"))
    with sentences():
        _sensitivity(asked, values)


def question(values: Values) -> Asked:
    """The scenario with its promises."""
    slo = SLO(ttft_s=_seconds(values["ttft_ms"]), tpot_s=_seconds(values["tpot_ms"]))
    asked_for = {**values, "tp": str(values["ranks"])}
    if values["case"] != OWN:
        case = USE_CASES[values["case"]]
        asked_for |= lengths(case)
        slo = case.slo
    asked = Asked(asked_for)
    asked.load = msgspec.structs.replace(asked.load, slo=slo)
    return asked


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1e3


def _needs(asked: Asked, values: Values) -> None:
    found = require(asked.model, asked.plan, asked.load, asked.basis, asked.system, asked.arrival)
    html(markup.sentence(_said(found, values)))
    html(markup.table(required.HEADS, required.needs(found), texts=2))
    draw(required.coverage(found, [load_system(name) for name in values["beside"]]))


def _said(found: Required, values: Values) -> str:
    slo, load = found.workload.slo, found.workload
    promises = [
        f"{label} within {1e3 * value:g} ms"
        for label, value in (
            ("first token", slo and slo.ttft_s),
            ("each token", slo and slo.tpot_s),
        )
        if value
    ]
    return (
        f"{found.model.name}, {load.batch:,} at once, {load.input_tokens:,} tokens in, "
        f"{load.output_tokens:,} out, {' and '.join(promises)}: each of {values['ranks']} "
        f"device{'s' if values['ranks'] > 1 else ''} needs what stands below, and "
        f"{required.NAMES[found.binding]} binds most. Software as on {found.like.name}."
    )


def _sensitivity(asked: Asked, values: Values) -> None:
    base: Answer = settle_ranks(asked)
    found = sensitivity(
        asked.model, asked.system, base.plan, asked.load, asked.basis, asked.arrival,
        values["spread"] / 100,
    )  # fmt: skip
    html(markup.sentence(f"{headline(base)}."))
    draw(required.tornado(found, values["metric"]))
    html(markup.notes(base.warnings))
