"""Which plans keep the promises and the budget, and which reason each other one failed for."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.basis import around
from analyzer.search.evaluate import Columns
from analyzer.search.question import Question

Array = NDArray[np.float64]


class Reason(NamedTuple):
    """One way to fail: what it is called, and a sentence with the figures of one plan."""

    name: str
    meaning: str


REASONS: tuple[Reason, ...] = (
    Reason("memory", "weights, cache and activations do not fit a device"),
    Reason("busy", "prompts would come faster than the devices can read them"),
    Reason("devices", "one replica, or the load's replicas, need more devices than the budget"),
    Reason("cost", "they cost more per hour than the budget"),
    Reason("power", "they draw more power than the budget"),
    Reason("ttft", "the first token comes later than promised"),
    Reason("tpot", "tokens come more slowly than promised"),
    Reason("e2e", "the answer ends later than promised"),
)
BIT = {reason.name: 1 << place for place, reason in enumerate(REASONS)}
PROMISES = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_s"}


class Judged(NamedTuple):
    """A verdict per plan."""

    failed: NDArray[np.int64]
    """Sum of BITs; 0 for plans that keep everything."""
    replicas: NDArray[np.int64]
    """As many as the load needs, or as the budget allows where no load is given."""


def judge(question: Question, columns: Columns) -> Judged:
    """Hold every plan against the promises and the budget."""
    failed = np.where(np.isnan(columns.e2e_s), BIT["memory"], 0)
    # A fitted share of interference may promise more than the devices' time: nobody can keep that.
    failed = np.where(columns.busy > 1.0, BIT["busy"], failed)
    fits = ~np.isnan(columns.e2e_s)
    allowed = _allowed(question, columns)
    most = np.minimum.reduce(list(allowed.values()))
    if question.requests_per_s is None:
        replicas = np.maximum(most, 1.0)
    else:
        each = np.where(fits, columns.requests_per_s, np.inf)
        replicas = np.maximum(np.ceil(question.requests_per_s / each - 1e-9), 1.0)
    for name, limit in allowed.items():
        failed = failed + np.where(fits & (replicas > limit), BIT[name], 0)
    for name, column in PROMISES.items():
        promised = getattr(question.slo, column)
        if promised is not None:
            late = upper(question, columns, column) > promised
            failed = failed + np.where(fits & late, BIT[name], 0)
    return Judged(failed, replicas.astype(np.int64))


def upper(question: Question, columns: Columns, column: str) -> Array:
    """The figure that has to keep a promise: predicted, or the upper end of its interval."""
    values: Array = getattr(columns, column)
    return values * factors(question, columns, column)[1] if question.surely else values


def factors(question: Question, columns: Columns, metric: str) -> tuple[Array, Array]:
    """Ends of the interval over the prediction, by row; NaN where no interval is known."""
    ends = np.full((2, len(columns.offer)), np.nan)
    for index, (_, basis) in enumerate(question.offers):
        mine = columns.offer == index
        held = around(basis, metric, 1.0, columns.ttft_s[mine], columns.e2e_s[mine])
        if held is not None:
            # What is made of two times comes in seconds, a band as a factor.
            unit = columns.e2e_s[mine] if np.ndim(held.low) and metric == "e2e_s" else 1.0
            ends[0, mine], ends[1, mine] = held.low / unit, held.high / unit
    ends[:, columns.offloaded] = np.nan  # nothing like it was measured
    return ends[0], ends[1]


def _allowed(question: Question, columns: Columns) -> dict[str, Array]:
    """Replicas that each part of the budget pays for."""
    budget = question.budget
    devices = [
        float(min(budget.devices or system.devices_per_node, system.max_devices))
        for system, _ in question.offers
    ]
    allowed = {"devices": np.array(devices)[columns.offer] // columns.devices}
    for name, limit, figure in (
        ("cost", budget.usd_per_hour, "price_usd_per_hour"),
        ("power", budget.power_W, "tdp_W"),
    ):
        if limit is not None:
            each = [_figure(system.device, figure) for system, _ in question.offers]
            allowed[name] = np.floor(limit / (np.array(each)[columns.offer] * columns.devices))
    return allowed


def _figure(device: Any, name: str) -> float:
    """Infinite where it is not known: then a budget of it cannot be kept."""
    value = getattr(device, name)
    return float("inf") if value is None else float(value)
