"""Use cases, models, systems or technologies side by side: what is asked, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzer.answer import Answer
from analyzer.errors import InputError
from analyzer.predict import predict
from analyzer.systems_catalog import load_system
from analyzer.units import show
from analyzer.use_cases import USE_CASES, UseCase
from reports.web.asking import Asked, ask, settle_ranks
from reports.web.figure import Figure, Rule, figure
from reports.web.predicted import count, dollars
from reports.web.state import Values
from reports.web.technologies import TECHNOLOGIES, changed


class Entry(NamedTuple):
    """One thing that is compared: its answer, or the sentence that says why there is none."""

    name: str
    answer: Answer | None
    problem: str = ""
    measured: bool = True
    """False where the machine exists on paper only, so that no interval applies."""


Question = tuple[str, Callable[[], Answer], bool]


def entries(values: Values) -> list[Entry]:
    """Everything that the page compares, answered one by one."""
    return [_entry(*each) for each in KINDS[values["by"]](values)]


def _entry(name: str, asked: Callable[[], Answer], measured: bool) -> Entry:
    try:
        return Entry(name, asked(), measured=measured)
    except InputError as error:
        return Entry(name, None, str(error), measured)


def _use_cases(values: Values) -> Iterator[Question]:
    for name in values["cases"]:
        case = USE_CASES[name]
        yield case.name, _asking({**values, **lengths(case)}), True


def lengths(case: UseCase) -> Values:
    """A use case in the words of a page's state."""
    return {
        "input": case.input_tokens,
        "output": case.output_tokens,
        "beams": case.beams,
        "cached": case.cached_tokens,
    }


def _models(values: Values) -> Iterator[Question]:
    for name in values["models"]:
        yield name, _asking({**values, "model": name}), True


def _systems(values: Values) -> Iterator[Question]:
    for name in values["systems"]:
        yield name, _asking({**values, "system": name}), True


def _technologies(values: Values) -> Iterator[Question]:
    system = load_system(values["system"])
    yield f"{system.name} as it is", _asking(values), True
    for name in values["technologies"]:
        part = TECHNOLOGIES[name]
        if part.kind == "format":
            yield part.title, _asking({**values, "weights": part.weights}), True
        else:
            yield part.title, _on_paper(values, name), False


def _asking(values: Values) -> Callable[[], Answer]:
    return lambda: ask(values)


def _on_paper(values: Values, name: str) -> Callable[[], Answer]:
    def asked() -> Answer:
        system = changed(load_system(values["system"]), name, values["stacks"])
        return settle_ranks(Asked(values, system))

    return asked


KINDS: dict[str, Callable[[Values], Iterator[Question]]] = {
    "use cases": _use_cases,
    "models": _models,
    "systems": _systems,
    "technologies": _technologies,
}
"""What can be compared; a new kind is one entry here."""

TIMES = {
    "ttft_s": "Time to first token",
    "tpot_s": "Time per output token",
    "e2e_s": "End to end",
}


def times(found: Sequence[Entry]) -> list[Figure]:
    """A figure for each latency, with intervals where there are any."""
    return [_bars(found, name, title, "s") for name, title in TIMES.items()]


def rates(found: Sequence[Entry]) -> list[Figure]:
    """Throughput per device, and what a million tokens cost, where prices are known."""
    each = _bars(found, "decode_tok_s", "Decoding, per device", "tok/s", per_device=True)
    priced = [one for one in found if one.answer and _usd(one.answer) is not None]
    return [each, _cost(priced)] if priced else [each]


def _bars(
    found: Sequence[Entry], metric: str, title: str, unit: str, per_device: bool = False
) -> Figure:
    rows: list[tuple[str, float | None, float | None, float | None]] = []
    for one in found:
        if one.answer is None:
            rows.append((one.name, None, None, None))
            continue
        share = float(one.answer.plan.devices) if per_device else 1.0
        held = one.answer.interval(metric) if one.measured else None
        low, high = (float(held.low) / share, float(held.high) / share) if held else (None, None)
        rows.append((one.name, float(getattr(one.answer.prediction, metric)) / share, low, high))
    banded = any(row[2] is not None for row in rows)
    return figure(
        f"plumbline-compare-{metric.removesuffix('_s').replace('_', '-')}",
        title,
        "bar",
        (("name", "name"), ("value", title.lower(), unit), ("low", "low end of the interval", unit),
         ("high", "high end of the interval", unit)),
        rows,
        x="value",
        y="name",
        low="low",
        high="high",
        caption="Whiskers: where measurements lay around such predictions." if banded else "",
    )  # fmt: skip


def _usd(found: Answer) -> float | None:
    usd = found.prediction.usd_per_million_tokens
    return None if usd is None else float(usd)


def _cost(found: Sequence[Entry]) -> Figure:
    rows = [(one.name, _usd(one.answer)) for one in found if one.answer]
    return figure(
        "plumbline-compare-cost",
        "Cost of a million output tokens",
        "bar",
        (("name", "name"), ("usd", "cost of a million output tokens", "USD")),
        rows,
        x="usd",
        y="name",
        caption="At the list prices of the catalog.",
    )


def balance(found: Sequence[Entry], values: Values) -> Figure:
    """Wait against throughput: what the user feels, and what the owner gets."""
    rows = [
        (one.name, float(made.ttft_s), float(made.tpot_s),
         float(made.decode_tok_s) / float(one.answer.plan.devices), float(one.answer.plan.devices))
        for one in found
        if one.answer
        for made in (one.answer.prediction,)
    ]  # fmt: skip
    ttft_s = values["ttft_ms"] and values["ttft_ms"] / 1e3
    return figure(
        "plumbline-compare-balance",
        "Wait for the first token against decoding per device",
        "point",
        (("name", "name"), ("ttft_s", "time to first token", "s"),
         ("tpot_s", "time per output token", "s"),
         ("tok_s", "decoding per device", "tok/s"), ("devices", "devices")),
        rows,
        x="ttft_s",
        y="tok_s",
        color="name",
        log_x=True,
        log_y=True,
        rules=(Rule("x", ttft_s, "promised"),) if ttft_s else (),
        caption="Up and to the left is better.",
    )  # fmt: skip


BATCHES = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512], dtype=np.float64)


def growth(found: Sequence[Entry]) -> Figure:
    """Decoding throughput of the whole system as the batch grows, for everything compared."""
    rows = [row for one in found if one.answer for row in _growth(one.name, one.answer)]
    return figure(
        "plumbline-compare-growth",
        "Decoding, whole system, as the batch grows",
        "line",
        (("name", "name"), ("batch", "batch, sequences"), ("tok_s", "decoding", "tok/s"),
         ("tpot_s", "time per output token", "s")),
        rows,
        x="batch",
        y="tok_s",
        color="name",
        log_x=True,
        log_y=True,
        caption="Sizes that do not fit at once are left out.",
    )  # fmt: skip


def _growth(name: str, found: Answer) -> Iterator[tuple[Any, ...]]:
    load = msgspec.structs.replace(found.workload, batch=BATCHES)
    grown = predict(
        found.model, found.system, found.plan, load, found.basis.rates, found.arrival,
        queue=False, strict=False,
    )  # fmt: skip
    tok_s = np.broadcast_to(grown.decode_tok_s, BATCHES.shape)
    tpot_s = np.broadcast_to(grown.tpot_s, BATCHES.shape)
    for batch, rate, time_s in zip(BATCHES, tok_s, tpot_s, strict=True):
        if np.isfinite(rate):
            yield name, float(batch), float(rate), float(time_s)


HEADS = (
    "", "layout", "rates", "first token", "per token", "end to end", "decoding per device",
    "memory per device", "cost per million", "bound by",
)  # fmt: skip


def rows(found: Sequence[Entry]) -> list[tuple[str, ...]]:
    """The figures as a table."""
    from analyzer.explain import bound

    made = []
    for one in found:
        if one.answer is None:
            continue
        said, plan = one.answer.prediction, one.answer.plan
        usd = _usd(one.answer)
        basis = one.answer.basis.label.partition("@")[0]
        made.append((
            one.name,
            f"tp {plan.tp}" + (f" × pp {plan.pp}" if plan.pp > 1 else "") + f", {plan.weights}",
            basis if one.measured else f"{basis}, carried over",
            *(show(float(getattr(said, name)), "time", 3) for name in TIMES),
            f"{count(float(said.decode_tok_s) / float(plan.devices))} tok/s",
            show(float(said.memory.total_B), "bytes", 3),
            "–" if usd is None else dollars(usd),
            bound(one.answer).overall,
        ))  # fmt: skip
    return made
