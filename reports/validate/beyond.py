"""Beyond what a fit saw: longer, larger, more devices, another system altogether."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.holdout import RANGES
from calibration.problem import METRICS
from calibration.scored import OURS, UNSEEN, Scored
from reports.validate.pick import LOADS, NAMES, Mask, everything, rows, title
from reports.validate.table import Cell, Section, table

TEXT = (
    "Each group is fitted to the rows at or below its median length (prompt and output), batch or "
    "number of devices, and scored on those above it; “same rows, all data” is the in-sample error "
    "of the full fit on the very rows that were predicted, so that the difference is the price of "
    "extrapolating. System unseen: every group predicted from other systems only.",
)


def beyond(scored: Sequence[Scored]) -> Section:
    """One line per range, load and metric, and one per unseen system."""
    columns = (
        "left out",
        "load",
        "metric",
        "groups:count",
        "rows:count",
        "geomean error:percent",
        "median of groups:percent",
        "bias:signed",
        "same rows, all data:percent",
    )
    lines = [
        line
        for name in (*RANGES, UNSEEN)
        for load, mask in LOADS.items()
        for metric in METRICS
        if (line := _line(scored, name, load, mask, metric))
    ]
    return Section("beyond", "Beyond what was measured", TEXT, (table("ranges", columns, lines),))


def _line(scored: Sequence[Scored], way: str, load: str, mask: Mask, metric: str) -> list[Cell]:
    index = METRICS.index(metric)

    def answered(one: Scored) -> NDArray[np.bool_]:
        predicted = one.predicted.get(way)
        if predicted is None:
            return np.zeros(len(one.models), dtype=bool)
        found: NDArray[np.bool_] = mask(one) & np.isfinite(predicted[:, index])
        return found

    found = rows(scored, way, metric, answered).tally
    if not found.rows:
        return []
    each = [rows([one], way, metric, answered).tally for one in scored]
    errors = [one.geomean for one in each if one.rows]
    seen = rows(scored, OURS, metric, answered).tally
    return [
        way,
        load,
        NAMES[metric],
        len(errors),
        found.rows,
        found.geomean,
        float(np.median(errors)),
        found.bias,
        seen.geomean,
    ]


def unseen_systems(scored: Sequence[Scored]) -> Section:
    """Each group, predicted without its system."""
    columns = ["system and engine"]
    columns += [f"{NAMES[metric]} geomean:percent" for metric in METRICS]
    columns += [f"{NAMES[metric]} bias:signed" for metric in METRICS]
    lines: list[list[Cell]] = []
    for one in scored:
        tallies = [rows([one], UNSEEN, metric, everything).tally for metric in METRICS]
        lines.append(
            [title(one), *(each.geomean for each in tallies), *(each.bias for each in tallies)]
        )
    text = ("Rates pooled over the other systems that ran the same class of engine.",)
    made = (table("unseen_systems", columns, lines),)
    return Section("unseen", "Each system from the others alone", text, made, page="groups")
