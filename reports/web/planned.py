"""Every legal plan under a promise, as the page shows it: the front, the best, why others lost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from analyzer.basis import calibrated, generation
from analyzer.errors import ConfigError
from analyzer.models_catalog import load as load_model
from analyzer.search import OBJECTIVES, Budget, Found, Offer, Question, Space
from analyzer.search.evaluate import BATCHES
from analyzer.search.structures import structures
from analyzer.systems_catalog import load_system
from analyzer.units import show
from analyzer.workload import SLO
from reports.web.figure import Figure, Rule, figure
from reports.web.predicted import Card, count, dollars
from reports.web.state import Values

BEST = 8
SERVER = "vllm"
MOST_POINTS = 1200
MOST_LAYOUTS = 1500
"""Layouts that a page searches, each with every batch: about 5 s of one core."""


def question(values: Values) -> Question:
    """What the page asks the search."""
    if not values["systems"]:
        raise ConfigError("choose at least one system")
    return Question(
        model=load_model(values["model"]),
        offers=tuple(_offer(name, values["engine"]) for name in values["systems"]),
        input_tokens=values["input"],
        output_tokens=values["output"],
        slo=SLO(
            **{
                f"{name}_s": values[f"{name}_ms"] and values[f"{name}_ms"] / 1e3
                for name in ("ttft", "tpot", "e2e")
            }
        ),
        surely=values["surely"],
        budget=Budget(devices=values["devices"], usd_per_hour=values["usd"]),
        space=Space(weights=values["formats"] or ("",), disaggregated=values["split"]),
        objective=values["objective"],
        engine=values["engine"],
    )


def bounded(asked: Question) -> Question:
    """The question, if a page may ask it: a search of all catalogs would keep others waiting."""
    layouts = sum(len(each.ranks) for each in structures(asked).found)
    if layouts > MOST_LAYOUTS:
        raise ConfigError(
            f"this asks for {layouts * len(BATCHES):,} plans, and a page searches "
            f"{MOST_LAYOUTS * len(BATCHES):,} at most: take fewer systems, devices or formats, or "
            "use `plumbline search`"
        )
    return asked


def _offer(name: str, engine: str) -> Offer:
    system = load_system(name)
    kind = engine and generation(system, engine, "closed_loop")
    return Offer(system, calibrated(system, kind, "closed_loop"))


def front(found: Found) -> Figure:
    """Speed for one user against throughput per device: every plan that fits, the front joined."""
    columns, question_ = found.columns, found.question
    best, edge = found.best(), set(found.front().tolist())
    rows = [
        (
            "the front" if at in edge else "keeps the promise" if found.keeps[at] else "breaks it",
            float(columns.tok_s_per_user[at]), float(columns.tok_s_per_device[at]),
            found.system(at).name, _cut(found, at), float(columns.batch[at]),
            float(columns.ttft_s[at]), float(columns.tpot_s[at]),
        )
        for at in _shown(found, edge)
    ]  # fmt: skip
    if best is not None:
        rows.append(("the best", *rows_of(found, best)))
    order = {"breaks it": 0, "keeps the promise": 1, "the front": 2, "the best": 3}
    rows.sort(key=lambda row: order[row[0]])
    promised = question_.slo.tpot_s
    return figure(
        "plumbline-plan-front",
        "What one user sees against what a device gives",
        "point",
        (
            ("kind", "plan"), ("user", "tokens per second of one user", "tok/s"),
            ("device", "tokens per second of one device", "tok/s"), ("system", "system"),
            ("plan", "layout"), ("batch", "sequences per replica"),
            ("ttft_s", "time to first token", "s"), ("tpot_s", "time per token", "s"),
        ),
        rows,
        x="user",
        y="device",
        color="kind",
        strong="the best",
        log_x=True,
        log_y=True,
        rules=(Rule("x", 1.0 / promised, "promised"),) if promised else (),
        caption=f"{len(rows):,} of {found.plans:,} plans; up and to the right is better.",
    )  # fmt: skip


def rows_of(found: Found, at: int) -> tuple[Any, ...]:
    """One plan's place in the figure."""
    row = found.row(at)
    return (
        row.tok_s_per_user, row.tok_s_per_device, row.system, _cut(found, at), row.batch,
        row.ttft_s, row.tpot_s,
    )  # fmt: skip


def _shown(found: Found, edge: set[int]) -> Iterator[int]:
    """The front, and an even sample of what fits."""
    fits = np.flatnonzero(
        np.isfinite(found.columns.tok_s_per_user) & np.isfinite(found.columns.tok_s_per_device)
    )
    places = np.linspace(0, len(fits) - 1, min(len(fits), MOST_POINTS)).round().astype(int)
    sample = {int(fits[place]) for place in places.tolist()} if len(fits) else set()
    yield from sorted(sample | edge)


def _cut(found: Found, at: int) -> str:
    plan = found.plan(at)
    parts = [
        f"{name} {getattr(plan, name)}"
        for name in ("tp", "pp", "ep", "attention_dp")
        if getattr(plan, name) != 1
    ]
    split = found.columns.prefill[at] >= 0
    return ", ".join([*parts, plan.weights, *(["separate prefill"] if split else [])])


HEADS = (
    "system", "layout", "replicas", "batch", "first token", "per token", "per device", "per user",
    "cost per million", "",
)  # fmt: skip


def best(found: Found) -> list[tuple[str, ...]]:
    """The best batch of the best layouts as a table; ties within the interval are called ties."""
    ties = found.ties()
    tied = set() if ties is None else set(ties.tolist())
    made: list[tuple[str, ...]] = []
    for place, at in enumerate(found.leaders(BEST)):
        row = found.row(at)
        usd = row.usd_per_million
        made.append((
            row.system, _cut(found, at), f"{row.replicas:,}", f"{row.batch:,.0f}",
            show(row.ttft_s, "time", 3), show(row.tpot_s, "time", 3),
            f"{count(row.tok_s_per_device)} tok/s", f"{count(row.tok_s_per_user)} tok/s",
            dollars(usd) if np.isfinite(usd) else "–",
            "best" if place == 0 else "tie" if at in tied else found.why(at),
        ))  # fmt: skip
    return made


def cards(found: Found, at: int) -> list[Card]:
    """The winner in large type."""
    row = found.row(at)
    answer = found.answer(at)
    made = [
        Card("Deploy", f"{row.devices * row.replicas} × {row.system}", _cut(found, at)),
        Card("Sequences at once", f"{row.batch:,.0f}", f"per replica, {row.replicas} of them"),
    ]
    for name, label in (("ttft_s", "Time to first token"), ("tpot_s", "Time per output token")):
        held = found.interval(at, name, answer)
        note = "no interval is known"
        if held is not None:
            ends = (show(float(value), "time", 3) for value in (held.low, held.high))
            note = f"{' to '.join(ends)} ({held.level:.0%} of measurements)"
        made.append(Card(label, show(float(getattr(row, name)), "time", 3), note))
    made.append(Card("Per device", f"{count(row.tok_s_per_device)} tok/s", "output"))
    made.append(Card("Per user", f"{count(row.tok_s_per_user)} tok/s", "while answering"))
    return made


def refusal(found: Found) -> str:
    """Why no plan keeps the promise, and how near the nearest came."""
    lost = sorted(found.lost(), key=lambda each: -each.plans)
    reasons = "; ".join(f"{each.plans:,}: {each.meaning}" for each in lost)
    more = "; take more devices or narrower weights, or see `plumbline search --offload`"
    advice = more if found.nothing_fits else ""
    return f"none of {found.plans:,} plans keeps promise and budget ({reasons}){advice}"


def lost(found: Found) -> list[tuple[str, ...]]:
    """Why plans failed."""
    return [
        (each.meaning, f"{each.plans:,}", f"{each.alone:,}")
        for each in sorted(found.lost(), key=lambda each: -each.plans)
    ]


OBJECTIVE_TITLES = {name: entry.meaning for name, entry in OBJECTIVES.items()}
