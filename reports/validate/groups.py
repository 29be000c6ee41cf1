"""Every (system, engine), and the headline over those with enough models to leave out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from calibration.problem import METRICS
from calibration.scored import FACTOR_OUT, OURS, OURS_OUT, Scored
from calibration.tally import Clusters, clusters, median_interval
from reports.validate.pick import (
    LEAST_MODELS,
    LOADS,
    NAMES,
    Mask,
    everything,
    models_of,
    rows,
    title,
)
from reports.validate.table import Cell, Section, Table, percent, table

COLUMNS = (
    "system",
    "engine",
    "load",
    "metric",
    "rows:count",
    "models:count",
    "in-sample:percent",
    "held out:percent",
    "one factor, held out:percent",
    "MAPE:percent",
    "bias:signed",
    "median:percent",
    "p90:percent",
)


class Entry(NamedTuple):
    """One group's held-out error in one metric."""

    one: Scored
    error: float
    clusters: Clusters


def eligible(scored: Sequence[Scored], metric: str, mask: Mask) -> list[Entry]:
    """Groups with enough held-out models, best first."""
    index = METRICS.index(metric)
    found = []
    for one in scored:
        if models_of(one, metric, mask) < LEAST_MODELS:
            continue
        chosen = mask(one)
        predicted = one.predicted[OURS_OUT][chosen, index]
        measured = one.measured[chosen, index]
        error = rows([one], OURS_OUT, metric, mask).tally.geomean
        found.append(Entry(one, error, clusters(predicted, measured, one.models[chosen])))
    return sorted(found, key=lambda entry: entry.error)


def headline(scored: Sequence[Scored]) -> Section:
    """Median and worst of the groups, with an interval and what one group more or less changes."""
    lines: list[list[Cell]] = []
    for load, mask in LOADS.items():
        for metric in METRICS:
            entries = eligible(scored, metric, mask)
            if len(entries) >= 3:
                lines.append(_headline(load, metric, entries))
    columns = (
        "load",
        "metric",
        "groups:count",
        "median:percent",
        "90 % interval",
        "best:percent",
        "worst:percent",
        "worst group",
        "median without any one group",
    )
    text = (
        f"Leave-one-model-out geomean error of each (system, engine) group with at least "
        f"{LEAST_MODELS} models of the metric: the median of the groups, and the worst. The "
        "interval is a cluster bootstrap (2,000 draws, fixed seed): groups are drawn, and within "
        "each its models; the last column is the range of the median when any one group is left "
        "away.",
    )
    return Section("headline", "Headline", text, (table("headline", columns, lines),), ("groups",))


def _headline(load: str, metric: str, entries: list[Entry]) -> list[Cell]:
    errors = np.array([entry.error for entry in entries])
    low, high = median_interval([entry.clusters for entry in entries])
    dropped = [float(np.median(np.delete(errors, index))) for index in range(len(errors))]
    worst = entries[-1]
    return [
        load,
        NAMES[metric],
        len(entries),
        float(np.median(errors)),
        f"{percent(low)} … {percent(high)}",
        float(errors[0]),
        float(errors[-1]),
        title(worst.one),
        f"{percent(min(dropped))} … {percent(max(dropped))}",
    ]


def groups(scored: Sequence[Scored]) -> Section:
    """One line per group, load and metric."""
    text = (
        "Geomean errors where nothing else is said; MAPE, bias, median and p90 are those of the "
        "held-out predictions. A group of one model has nothing to hold out.",
    )
    return Section("groups", "Every system and engine", text, (group_table(scored),), page="groups")


def group_table(scored: Sequence[Scored]) -> Table:
    """The lines."""
    lines = [
        line
        for one in scored
        for load, mask in LOADS.items()
        for metric in METRICS
        if (line := _line(one, load, metric, mask))
    ]
    return table("groups", COLUMNS, lines)


def _line(one: Scored, load: str, metric: str, mask: Mask) -> list[Cell]:
    seen = rows([one], OURS, metric, mask).tally
    if not seen.rows:
        return []
    unseen = rows([one], OURS_OUT, metric, mask).tally
    factor = rows([one], FACTOR_OUT, metric, mask).tally
    measured = np.isfinite(one.measured[:, METRICS.index(metric)]) & mask(one)
    return [
        *one.key,
        load,
        NAMES[metric],
        seen.rows,
        len(set(one.models[measured].tolist())),
        seen.geomean,
        unseen.geomean,
        factor.geomean,
        unseen.mape,
        unseen.bias,
        unseen.median,
        unseen.p90,
    ]


def in_sample(one: Scored) -> list[float]:
    """In-sample geomean errors by metric: what the drift check works out anew."""
    return [rows([one], OURS, metric, everything).tally.geomean for metric in METRICS]
