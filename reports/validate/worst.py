"""The ten worst predictions of models that no fit saw, and what can be said of why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from analyzer.model import MLA, MoE
from calibration.problem import METRICS, Case
from calibration.scored import OURS, OURS_OUT, Scored
from reports.validate.pick import LOADS, NAMES, Mask
from reports.validate.table import Cell, Section, Table, table

COUNT = 10
SEEN_WELL = 0.25
"""In-sample |ln ratio| below which the form can describe a row once it has seen its model."""
FEW = 3
STUBBORN = "missed even by the fit that saw it"
TEXT = (
    "The worst row of each (system, engine, model) by held-out |ln ratio|, ten per kind of load. "
    "The last column is worked out, not written by hand: it names what sets the held-out model "
    "apart from every other model of its group, or says that the form misses the row even when it "
    "was fitted to it, or “unexplained”.",
)


class Miss(NamedTuple):
    """One badly predicted figure."""

    one: Scored
    row: int
    metric: int
    error: float


def worst(scored: Sequence[Scored]) -> Section:
    """A table per kind of load."""
    made = tuple(_table(name, _misses(scored, mask)) for name, mask in LOADS.items())
    return Section("worst", "Worst cases", TEXT, made)


def _misses(scored: Sequence[Scored], mask: Mask) -> list[Miss]:
    found: dict[tuple[str, str, str], Miss] = {}
    for one in scored:
        with np.errstate(invalid="ignore"):
            errors = np.abs(np.log(one.predicted[OURS_OUT] / one.measured))
        errors[~mask(one)] = np.nan
        for row, metric in zip(*np.nonzero(np.isfinite(errors)), strict=True):
            miss = Miss(one, int(row), int(metric), float(errors[row, metric]))
            place = (*one.key, str(one.models[row]))
            if place not in found or miss.error > found[place].error:
                found[place] = miss
    return sorted(found.values(), key=lambda miss: -miss.error)[:COUNT]


def _table(name: str, misses: Sequence[Miss]) -> Table:
    columns = (
        "system and engine",
        "model",
        "metric",
        "devices:count",
        "batch:count",
        "prompt:count",
        "output:count",
        "measured:ms",
        "predicted:ms",
        "in-sample:ms",
        "source",
        "why",
    )
    lines = [_line(miss) for miss in misses]
    return table(f"worst_{name.split()[0]}", columns, lines, f"**{name.capitalize()}**")


def _line(miss: Miss) -> list[Cell]:
    one, at = miss.one, (miss.row, miss.metric)
    case = one.group.problem.cases[miss.row]
    load = case.workload
    return [
        " · ".join(one.key),
        case.model.name,
        NAMES[METRICS[miss.metric]],
        float(case.plan.devices),
        float(load.batch),
        float(load.input_tokens),
        float(load.output_tokens),
        float(one.measured[at]),
        float(one.predicted[OURS_OUT][at]),
        float(one.predicted[OURS][at]),
        one.group.records[miss.row].provenance.source,
        reason(miss),
    ]


TRAITS: dict[str, Callable[[Case], bool]] = {
    "a mixture of experts": lambda case: any(isinstance(x.ffn, MoE) for x in case.model.layers),
    "latent attention": lambda case: any(isinstance(x.mixer, MLA) for x in case.model.layers),
    "windowed attention": lambda case: any(
        getattr(x.mixer, "window", None) for x in case.model.layers
    ),
    "multi-head attention without shared keys": lambda case: _key_heads(case) == 1,
    "one key head for all queries": lambda case: _key_heads(case) > 12,
}


def _key_heads(case: Case) -> float:
    mixer = case.model.layers[0].mixer
    heads, keys = getattr(mixer, "heads", None), getattr(mixer, "kv_heads", None)
    return heads / keys if heads and keys else 0.0


def reason(miss: Miss) -> str:
    """What tells the model apart from the rest of its group; “unexplained” where nothing does."""
    one = miss.one
    cases, model = one.group.problem.cases, one.models[miss.row]
    case = cases[miss.row]
    others = [other for other in cases if other.group != model]
    said = [
        f"no other model of the group has {trait}"
        for trait, has in TRAITS.items()
        if has(case) and not any(has(other) for other in others)
    ]
    if case.plan.weights not in {other.plan.weights for other in others}:
        said.append(f"no other model of the group has {case.plan.weights} weights")
    if case.plan.devices > max(other.plan.devices for other in others):
        said.append("no other model of the group ran on as many devices")
    models = len({other.group for other in others})
    if models < FEW:
        said.append(f"only {models} other model{'s' if models > 1 else ''} to learn from")
    found = "; ".join(said) or "unexplained"
    return f"{found}; {STUBBORN}" if _in_sample(miss) > SEEN_WELL else found


def _in_sample(miss: Miss) -> float:
    at = (miss.row, miss.metric)
    return abs(float(np.log(miss.one.predicted[OURS][at] / miss.one.measured[at])))
