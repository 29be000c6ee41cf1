"""What the first page shows of an answer: cards, figures, and what the calibration saw."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.answer import Answer
from analyzer.basis import ORIGINS
from analyzer.explain import Line, bound, levers, lines
from analyzer.predict import predict, sizes
from analyzer.units import show
from reports.web.figure import Figure, Rule, figure

MOST_OPERATORS = 12
PHASES = {"prefill": "Prefill of the whole batch", "decode": "One output token"}
MEMORY = {
    "weights_B": "weights",
    "kv_B": "cache",
    "state_B": "recurrent state",
    "activations_B": "activations",
    "logits_B": "logits",
    "copies_B": "copies",
    "workspace_B": "library workspace",
    "reserve_B": "driver",
}


class Card(NamedTuple):
    """One figure in large type, and what stands below it."""

    label: str
    value: str
    note: str = ""


TIMES = {
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "e2e_s": "End to end",
}


def headline(found: Answer) -> str:
    """What was asked, in one sentence."""
    total, active = sizes(found.model)
    size = f"{total / 1e9:.3g} billion parameters"
    if active < total:
        size += f", {active / 1e9:.3g} billion active"
    plan, load = found.plan, found.workload
    count = int(plan.devices)
    arrival = "at once" if found.arrival == "static" else "in flight"
    return (
        f"{found.model.name} ({size}) on {count} × {found.system.device.name}: "
        f"{load.batch:,} sequence{'s' if load.batch != 1 else ''} {arrival}, "
        f"{load.input_tokens:,} tokens in, {load.output_tokens:,} out; {layout(found)}"
    )


def layout(found: Answer) -> str:
    """The plan in a few words."""
    plan = found.plan
    cuts = {name: getattr(plan, name) for name in ("tp", "pp", "dp", "ep")}
    parts = [f"{name} {value}" for name, value in cuts.items() if value != 1] or ["one device"]
    return ", ".join([*parts, f"{plan.weights} weights", f"{plan.kv or plan.activations} cache"])


def cards(found: Answer) -> list[Card]:
    """The figures that people look for first."""
    made = [
        Card(label, show(float(getattr(found.prediction, name)), "time", 3), between(found, name))
        for name, label in TIMES.items()
    ]
    for name, label in (("decode_tok_s", "Decoding"), ("total_tok_s", "Prompt and output")):
        value = float(getattr(found.prediction, name))
        each = f"{count(value / float(found.plan.devices))} per device"
        made.append(Card(f"{label}, whole system", f"{count(value)} tok/s", each))
    memory, has_B = float(found.prediction.memory.total_B), found.system.device.memory_B
    of = f"{memory / has_B:.0%} of {show(has_B, 'bytes', 3)}"
    made.append(Card("Memory of the fullest device", show(memory, "bytes", 3), of))
    return [*made, *_costs(found)]


def _costs(found: Answer) -> Iterator[Card]:
    energy_J, usd = found.prediction.energy_J_per_token, found.prediction.usd_per_million_tokens
    if energy_J is not None:
        yield Card("Energy", f"{float(energy_J):.3g} J", "per output token")
    if usd is not None:
        yield Card("Cost", dollars(float(usd)), "per million output tokens")


def between(found: Answer, name: str) -> str:
    """The interval in words, or that there is none."""
    held = found.interval(name)
    if held is None:
        return "no interval: nothing measured to hold it against"
    low, high = (show(float(value), "time", 3) for value in (held.low, held.high))
    return f"{low} to {high} ({held.level:.0%} of measurements)"


def count(value: float) -> str:
    """A number of tokens or sequences."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def operators(found: Answer, listed: list[Line]) -> list[Figure]:
    """Where each phase's time goes."""
    return [_phase(phase, title, listed) for phase, title in PHASES.items()]


_OPERATOR_COLUMNS = (
    ("operator", "operator"),
    ("time_s", "time", "s"),
    ("bound", "bound by"),
    ("share", "share of the phase", "share"),
    ("of_light", "least possible time over this", "share"),
    ("repeat", "executions"),
    ("rate", "rate that matters most"),
    ("origin", "that rate is"),
)


def _phase(phase: str, title: str, listed: list[Line]) -> Figure:
    mine = [line for line in listed if line.phase == phase]
    most = MOST_OPERATORS if len(mine) > MOST_OPERATORS + 1 else len(mine)
    shown, rest = mine[:most], mine[most:]
    rows = [
        (
            line.name, line.time_s, line.bound, line.share, line.of_light or None, line.repeat,
            line.rate, line.origin,
        )
        for line in shown
    ]  # fmt: skip
    if rest:
        time_s, share = sum(line.time_s for line in rest), sum(line.share for line in rest)
        name = f"{len(rest)} smaller ones"
        rows.append((name, time_s, rest[0].bound, share, None, None, "", ""))  # type: ignore[arg-type]
    return figure(
        f"plumbline-{phase}-operators",
        f"{title}: where the time goes",
        "bar",
        _OPERATOR_COLUMNS,
        rows,
        x="time_s",
        y="operator",
        color="bound",
        caption="By what binds each operator.",
    )


def memory(found: Answer) -> Figure:
    """What fills the fullest device."""
    held = found.prediction.memory._asdict()
    rows = [
        ("fullest device", float(held[name]), label)
        for name, label in MEMORY.items()
        if float(held[name]) > 0
    ]
    has_B = found.system.device.memory_B
    return figure(
        "plumbline-memory",
        "Memory of the fullest device",
        "bar",
        (("where", "where"), ("bytes", "memory", "B"), ("what", "what")),
        rows,
        x="bytes",
        y="where",
        color="what",
        stacked=True,
        rules=(Rule("x", has_B, f"the device has {show(has_B, 'bytes', 3)}"),),
        caption=_room(found),
    )


def _room(found: Answer) -> str:
    most = float(found.prediction.max_batch)
    return f"At most {most:,.0f} such sequences fit." if most < 1e9 else ""


def batches(found: Answer) -> Figure:
    """Time per token and throughput as the batch grows, all else as asked."""
    most = max(float(found.workload.batch) * 4, 64.0)
    sizes_ = np.unique(np.geomspace(1, most, 25).round())
    load = msgspec.structs.replace(found.workload, batch=sizes_)
    grown = predict(
        found.model, found.system, found.plan, load, found.basis.rates, found.arrival,
        queue=False, strict=False,
    )  # fmt: skip
    held = found.basis.interval("tpot_s", grown.tpot_s)
    nothing = np.full(sizes_.shape, np.nan)
    low, high = (held.low, held.high) if held else (nothing, nothing)
    rows = zip(
        sizes_, *(np.broadcast_to(each, sizes_.shape) for each in
        (grown.tpot_s, low, high, grown.decode_tok_s, grown.ttft_s)), strict=True,
    )  # fmt: skip
    known = [row for row in rows if np.isfinite(row[1])]
    return figure(
        "plumbline-batches",
        "Time per output token as the batch grows",
        "line",
        (
            ("batch", "batch, sequences"),
            ("tpot_s", "time per output token", "s"),
            ("low", "low end of the interval", "s"),
            ("high", "high end of the interval", "s"),
            ("decode_tok_s", "decoding, whole system", "tok/s"),
            ("ttft_s", "time to first token", "s"),
        ),
        known,
        x="batch",
        y="tpot_s",
        low="low" if held else "",
        high="high" if held else "",
        log_x=True,
        rules=(Rule("x", float(found.workload.batch), "asked"),),
        caption="Sizes that do not fit at once are left out."
        + (f" Shaded: {held.level:.0%} of measurements." if held else ""),
    )


def remarks(found: Answer, listed: list[Line]) -> list[str]:
    """What binds, and what would help."""
    binds = bound(found, listed)
    said = [
        f"Prefill is bound by {binds.prefill}, decoding by {binds.decode}, "
        f"the whole by {binds.overall}."
    ]
    gains = [f"{one.name} {one.gain:.1%}" for one in levers(found) if one.gain >= 0.0005]
    if gains:
        said.append(f"10 % more of one of these takes so much off the whole: {', '.join(gains)}.")
    return said


def explained(found: Answer) -> tuple[list[Line], list[str]]:
    """Every operator, and the remarks about them."""
    listed = lines(found)
    return listed, remarks(found, listed)


def seen(found: Answer) -> list[tuple[str, str, str]]:
    """What the calibration saw beside what is asked: (what, measured, asked)."""
    held = found.basis.calibration
    if held is None or held.hull is None:
        return []
    hull, load, plan = held.hull, found.workload, found.plan
    ranges = (
        ("sequences", hull.batch, load.batch),
        ("prompt, tokens", hull.input_tokens, load.input_tokens),
        ("answer, tokens", hull.output_tokens, load.output_tokens),
        ("devices", hull.devices, plan.devices),
    )
    made = [(name, f"{low:,g} to {high:,g}", f"{asked:,}") for name, (low, high), asked in ranges]
    made.append(("weights", ", ".join(hull.weights), plan.weights))
    made.append(("arrivals", ", ".join(hull.arrivals), found.arrival))
    here = "among them" if found.model.name in hull.models else "not among them"
    made.append(("models", ", ".join(hull.models), f"{found.model.name}: {here}"))
    return made


def scores(found: Answer) -> list[tuple[str, str, str, str, str]]:
    """How far such predictions lay off: (metric, rows, models, in-sample, model held out)."""
    held = found.basis.calibration
    names = {"ttft_s": "time to first token", "tpot_s": "time per output token",
             "e2e_s": "end to end"}  # fmt: skip
    return [
        (
            names.get(score.metric, score.metric),
            f"{score.rows:,}",
            f"{score.models:,}",
            f"{score.in_sample:.1%}",
            "no other model" if score.held_out is None else f"{score.held_out:.1%}",
        )
        for score in (held.scores if held else ())
    ]


def basis(found: Answer) -> str:
    """On what the rates rest, in a sentence."""
    held = found.basis.calibration
    if held is None:
        return f"Rates: {found.basis.label}; {ORIGINS[found.basis.origin]}."
    known = sum(fitted.identified for fitted in held.rates.values())
    return (
        f"Rates: {found.basis.label}, fitted to {held.rows:,} measurements of {held.models} "
        f"models; {known} of {len(held.rates)} rates identified by them, the others taken from "
        "a prior."
    )


def dollars(usd: float) -> str:
    """A price: to the cent, or to three digits where it is less than a dollar."""
    return f"${usd:,.2f}" if usd >= 1.0 else f"${usd:.3g}"
