"""Closed-loop serving on modern engines: a fixed number of requests in the system at all times."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.problem import METRICS
from calibration.scored import OURS, OURS_OUT, Scored
from reports.validate.pick import NAMES, Mask, models_of, queued, rows, served, title
from reports.validate.table import Cell, Section, Table, table

SOURCES = ("silicon_sample", "gpustack", "ml_energy")
TEXT = (
    "TTFT includes waiting for a turn, as the measured one does. “Held out” leaves the model out "
    "of every fit; “in-sample” has seen it. TTFT under load depends on how arrivals bunch, which "
    "sources do not state; its median is shown beside the mean for that reason. Offline "
    "throughput, with more requests waiting than can run, is scored as the time per token of a "
    "full engine: running sequences over tokens per second, so that an error of either is that of "
    "the other.",
    "DeepSeek-R1 and DeepSeek-V3 are one architecture under two names, and some of their rows are "
    "one measurement: where both are there, either is held out beside its twin, and its held-out "
    "error says little. docs/calibration.md has the errors with both left out.",
)


def serving(scored: Sequence[Scored]) -> Section:
    """By source, and by group."""
    tables = (_by_source(scored), _by_group(scored), _offline(scored))
    return Section("serving", "Closed-loop serving", TEXT, tables)


def _offline(scored: Sequence[Scored]) -> Table:
    """Throughput of engines that are always full, as their time per token."""
    lines: list[list[Cell]] = []
    for one in scored:
        line = _figures([one], "tpot_s", queued)
        if line:
            lines.append([title(one), models_of(one, "tpot_s", queued), *line])
    columns = ("offline: system and engine", "held-out models:count", *COLUMNS)
    return table("offline", columns, lines)


COLUMNS = (
    "rows:count",
    "MAPE held out:percent",
    "median held out:percent",
    "geomean held out:percent",
    "bias held out:signed",
    "MAPE in-sample:percent",
    "median in-sample:percent",
)


def _by_source(scored: Sequence[Scored]) -> Table:
    lines: list[list[Cell]] = []
    for source in (*SOURCES, "all"):

        def chosen(one: Scored, source: str = source) -> NDArray[np.bool_]:
            campaigns = np.array([case.campaign for case in one.group.problem.cases])
            found: NDArray[np.bool_] = served(one) & ((campaigns == source) | (source == "all"))
            return found

        for metric in METRICS[:2]:
            line = _figures(scored, metric, chosen)
            if line:
                lines.append([source, NAMES[metric], *line])
    return table("by_source", ("source", "metric", *COLUMNS), lines)


def _by_group(scored: Sequence[Scored]) -> Table:
    lines: list[list[Cell]] = []
    for one in scored:
        for metric in METRICS[:2]:
            line = _figures([one], metric, served)
            if line:
                models = models_of(one, metric, served)
                lines.append([title(one), NAMES[metric], models, *line])
    columns = ("system and engine", "metric", "held-out models:count", *COLUMNS)
    return table("by_group", columns, lines)


def _figures(scored: Sequence[Scored], metric: str, mask: Mask) -> list[Cell]:
    seen = rows(scored, OURS, metric, mask).tally
    if not seen.rows:
        return []
    out = rows(scored, OURS_OUT, metric, mask).tally
    return [seen.rows, out.mape, out.median, out.geomean, out.bias, seen.mape, seen.median]
