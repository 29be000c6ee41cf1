"""Models, systems, plans and use cases side by side, and the smallest plan that keeps pace.

Two questions of people who buy: what does it take to run a bigger model as fast as the one we
have, and does the machine that we have carry a new use case.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from analyzer.answer import Answer, answer
from analyzer.basis import Basis
from analyzer.errors import CapacityError, ConfigError
from analyzer.model import Model
from analyzer.plan import Plan
from analyzer.search import Budget, Found, Offer, Question, Space, search
from analyzer.system import System
from analyzer.workload import SLO, Workload

METRICS = {
    "ttft_s": False,
    "tpot_s": False,
    "e2e_s": False,
    "decode_tok_s": True,
    "total_tok_s": True,
    "memory_B": False,
    "max_batch": True,
    "energy_J_per_token": False,
    "usd_per_million_tokens": False,
}
"""What is compared, and whether more of it is better."""
BANDED = ("ttft_s", "tpot_s", "e2e_s", "decode_tok_s", "total_tok_s")
MATCHES = {
    "ttft": ("ttft_s",),
    "tpot": ("tpot_s",),
    "e2e": ("e2e_s",),
    "latency": ("ttft_s", "tpot_s"),
}
"""What a plan must be at least as good in to keep pace."""


class Case(NamedTuple):
    """One column of a comparison."""

    label: str
    model: Model
    system: System
    plan: Plan
    workload: Workload
    basis: Basis
    arrival: str = "static"


class Side(NamedTuple):
    """One case answered, or why it cannot be."""

    case: Case
    answer: Answer | None
    problem: str

    def value(self, metric: str) -> float:
        """One metric; NaN where it is not known."""
        if self.answer is None:
            return float("nan")
        found = self.answer.prediction
        value: Any = found.memory.total_B if metric == "memory_B" else getattr(found, metric)
        return float("nan") if value is None else float(np.asarray(value))

    def interval(self, metric: str) -> tuple[float, float] | None:
        """Where measurements of it lie; None where that is not known."""
        held = self.answer.interval(metric) if self.answer and metric in BANDED else None
        return None if held is None else (float(held.low), float(held.high))


class Compared(NamedTuple):
    """Sides in the order asked; the first is what the others are held against."""

    sides: tuple[Side, ...]

    def ratio(self, metric: str, place: int) -> float:
        """A side's metric over that of the first."""
        return self.sides[place].value(metric) / self.sides[0].value(metric)

    def tied(self, metric: str, place: int) -> bool | None:
        """Whether the intervals of a side and the first overlap; None where one is not known."""
        mine, first = self.sides[place].interval(metric), self.sides[0].interval(metric)
        if mine is None or first is None:
            return None
        return mine[0] <= first[1] and first[0] <= mine[1]

    def best(self, metric: str) -> int | None:
        """The side that is best in a metric."""
        values = np.array([side.value(metric) for side in self.sides])
        if np.all(np.isnan(values)):
            return None
        return int(np.nanargmax(values) if METRICS[metric] else np.nanargmin(values))


def compare(cases: Sequence[Case]) -> Compared:
    """Answer every case; one that cannot run says why and leaves the others alone."""
    if not cases:
        raise ConfigError("nothing to compare")
    return Compared(tuple(_side(case) for case in cases))


def _side(case: Case) -> Side:
    try:
        found = answer(case.model, case.system, case.plan, case.workload, case.basis, case.arrival)
    except (CapacityError, ConfigError) as error:
        return Side(case, None, str(error))
    return Side(case, found, "")


def keep_pace(
    first: Answer, model: Model, offers: Sequence[Offer], match: str, devices: int
) -> Found:
    """The search for the fewest devices on which `model` is at least as fast as `first`.

    Load, arrivals and batch are those of `first`; a plan's replicas share the batch.
    """
    if match not in MATCHES:
        raise ConfigError(f"match {match!r} is unknown; use one of {', '.join(MATCHES)}")
    wanted = {name: float(np.asarray(getattr(first.prediction, name))) for name in MATCHES[match]}
    load = first.workload
    return search(
        Question(
            model=model,
            offers=tuple(offers),
            input_tokens=int(load.input_tokens),
            output_tokens=int(load.output_tokens),
            beams=int(load.beams),
            cached_tokens=int(load.cached_tokens),
            slo=SLO(**wanted),
            arrival=first.arrival,
            budget=Budget(devices=devices),
            space=Space(batch=(int(load.batch),)),
            objective="fewest",
            engine=first.plan.engine,
        )
    )
