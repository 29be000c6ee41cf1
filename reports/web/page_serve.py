"""Serve: requests that come at a rate and share an engine, simulated event by event."""

from __future__ import annotations

from typing import Any

import streamlit as st

from analyzer.serving import SimOptions
from analyzer.serving.deployment import Deployment, Limits, deploy
from analyzer.workload import SLO
from analyzer.workload_load import ClosedLoop, Constant, Fixed, Gamma, Load, LogNormal, Poisson
from reports.web import fields, markup, simulated
from reports.web.asking import Asked, fewest_ranks
from reports.web.draw import side_by_side
from reports.web.frame import complain, html
from reports.web.limits import Deadline, turn
from reports.web.state import Choice, Real, Values, Whole
from reports.web.widgets import read, settle, widgets

PAGE = "serve"
ARRIVALS = {
    "poisson": "at random (Poisson)",
    "bursty": "in bursts (gamma, burstiness 0.25)",
    "steady": "at equal gaps",
    "closed": "so many users, each with one request",
}
SPREADS = {"fixed": "all alike", "varied": "log-normal around that, sigma 0.6"}
COME = Choice("come", "Requests come", "poisson", lambda: tuple(ARRIVALS),
              shown=ARRIVALS.__getitem__)  # fmt: skip
RATE = Real("rate", "Requests per second", 4.0, 0.001, 10_000.0)
USERS = Whole("users", "Users (where users come)", 32, 1, 4096)
COUNT = Whole("requests", "Requests to simulate", 400, 10, 4000)
LENGTHS = Choice("lengths", "Lengths are", "varied", lambda: tuple(SPREADS),
                 shown=SPREADS.__getitem__)  # fmt: skip
INPUT = Whole("input", "Prompt, tokens", 1024, 1, 131_072)
OUTPUT = Whole("output", "Answer, tokens", 256, 1, 8192)
REPLICAS = Whole("replicas", "Replicas", 1, 1, 64)
TTFT = Real("ttft_ms", "First token promised within, ms", 1000.0, 0.1, 1e7, optional=True)
TPOT = Real("tpot_ms", "Time per token promised, ms", 50.0, 0.01, 1e6, optional=True)
SEED = Whole("seed", "Seed", 0, 0, 1_000_000)
FIRST = (fields.MODEL, fields.SYSTEM, COME, RATE, USERS, INPUT, OUTPUT, LENGTHS)
MORE = (TTFT, TPOT, COUNT, REPLICAS, fields.TP, fields.WEIGHTS, fields.KV, fields.ENGINE, SEED)
FIELDS = (*FIRST, *MORE)


def show() -> None:
    """The page."""
    read(PAGE, FIELDS)
    with st.sidebar, st.form("asked", border=False):
        st.form_submit_button("Simulate", type="primary", width="stretch")
        widgets(PAGE, FIRST)
        with st.expander("Promises, layout, engine"):
            widgets(PAGE, MORE)
    values, problems = settle(PAGE, FIELDS)
    complain(problems)
    deployed, asked = deployment(values)
    options = options_of(values, deployed)
    _simulate(values, deployed, asked, options)


def deployment(values: Values) -> tuple[Deployment, Asked]:
    """The engine that serves: vLLM, unless another one is named."""
    asked = Asked({**values, "batch": 1, "arrival": "closed_loop",
                   "engine": values["engine"] or "vllm"})  # fmt: skip
    plan = fewest_ranks(asked)
    return deploy(asked.model, asked.system, plan, asked.basis, Limits()), asked


def options_of(values: Values, deployed: Deployment) -> SimOptions:
    """What is simulated."""
    ways: dict[str, Any] = {
        "poisson": Poisson(rate_per_s=values["rate"]),
        "bursty": Gamma(rate_per_s=values["rate"], burstiness=0.25),
        "steady": Constant(rate_per_s=values["rate"]),
        "closed": ClosedLoop(concurrency=values["users"]),
    }
    load = Load(
        arrivals=ways[values["come"]],
        input_tokens=_length(values["input"], values),
        output_tokens=_length(values["output"], values),
        requests=values["requests"],
        seed=values["seed"],
    )
    slo = SLO(ttft_s=_seconds(values["ttft_ms"]), tpot_s=_seconds(values["tpot_ms"]))
    replicas = values["replicas"] * deployed.replicas
    return SimOptions(load=load, engine=deployed.engine, replicas=replicas, slo=slo)


def _length(tokens: int, values: Values) -> Fixed | LogNormal:
    if values["lengths"] == "fixed" or tokens < 4:
        return Fixed(tokens=tokens)
    return LogNormal(median=float(tokens), sigma=0.6, low=max(tokens // 8, 1), high=tokens * 8)


def _seconds(value_ms: float | None) -> float | None:
    return None if value_ms is None else value_ms / 1e3


def _simulate(values: Values, deployed: Deployment, asked: Asked, options: SimOptions) -> None:
    html(markup.sentence(_headline(values, deployed, asked, options)))
    place = st.empty()
    blocks = options.engine.kv_blocks * options.replicas

    def watch(at: simulated.Snapshot) -> None:
        with place.container():
            st.progress(min(at.ended / values["requests"], 1.0),
                        f"{at.ended:,} of {values['requests']:,} requests ended")  # fmt: skip
            side_by_side(_curves(at.timeline, at.requests, blocks, options)[:2], at=f"-{at.ended}")

    deadline = Deadline(remedy="ask for fewer requests or shorter answers")
    with turn():
        found = simulated.serve(options, deployed.timer, watch, deadline)
    with place.container():
        html(markup.cards(simulated.cards(found)))
        curves = _curves(found.timeline, found.request_times, blocks, options)
        side_by_side([*curves, simulated.shares(found.request_times)])
    _assumed(deployed, asked)


def _curves(
    timeline: dict[str, list[float]], requests: Any, blocks: int, options: SimOptions
) -> list[Any]:
    promised = options.slo.ttft_s if options.slo else None
    return [
        simulated.occupancy(timeline),
        simulated.waits(requests, promised),
        simulated.cache(timeline, blocks),
    ]


def _headline(values: Values, deployed: Deployment, asked: Asked, options: SimOptions) -> str:
    plan = deployed.laid.plan
    devices = int(plan.tp * plan.pp) * options.replicas
    come = (
        f"{values['users']} users" if values["come"] == "closed" else f"{values['rate']:g} a second"
    )
    return (
        f"{asked.model.name} on {devices} × {asked.system.device.name} "
        f"({options.replicas} replica{'s' if options.replicas > 1 else ''}, tp {plan.tp}): "
        f"{values['requests']:,} requests, {come}, about {values['input']:,} tokens in and "
        f"{values['output']:,} out."
    )


def _assumed(deployed: Deployment, asked: Asked) -> None:
    html(markup.notes(asked.basis.warnings))
    html(
        markup.sentence(f"Rates: {asked.basis.label}. Simulated latencies have no interval.", True)
    )
    with st.expander("What the engine is taken to decide by itself"):
        html(markup.table(("",), [(text,) for text in deployed.assumed]))
