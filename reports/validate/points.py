"""points.csv: every measured figure beside its predictions, for whoever wants to look for himself.

One row per figure of a measured scenario. `held_out_s` is what a fit says that never saw the model,
`in_sample_s` what the shipped rates say; a cell is empty where there is no such prediction. Numbers
have four digits, as everywhere in the report.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence

import numpy as np

from calibration.problem import METRICS, Case
from calibration.scored import OURS, OURS_OUT, Scored
from reports.validate.table import Cell, rounded

COLUMNS = (
    "system",
    "engine",
    "model",
    "load",
    "metric",
    "devices",
    "batch",
    "input",
    "output",
    "weights",
    "source",
    "measured_s",
    "held_out_s",
    "in_sample_s",
)
SERVED, FIXED, QUEUED = "served", "fixed batch", "offline"


def points(scored: Sequence[Scored]) -> str:
    """The table as CSV, in the order of the groups and their rows."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in scored:
        writer.writerows(_rows(one))
    return stream.getvalue()


def _rows(one: Scored) -> Iterator[list[Cell]]:
    for at, case in enumerate(one.group.problem.cases):
        load = case.workload
        asked = [
            _number(case.plan.devices),
            _number(load.batch),
            _number(load.input_tokens),
            _number(load.output_tokens),
        ]
        source = one.group.records[at].provenance.source
        for metric, name in enumerate(METRICS):
            measured = float(one.measured[at, metric])
            if not np.isfinite(measured):
                continue
            predicted = [_number(one.predicted[way][at, metric]) for way in (OURS_OUT, OURS)]
            if predicted == ["", ""]:
                continue
            yield [
                *one.key,
                case.model.name,
                _load(case),
                name.removesuffix("_s"),
                *asked,
                case.plan.weights,
                source,
                _number(measured),
                *predicted,
            ]


def _load(case: Case) -> str:
    if case.queued:
        return QUEUED
    return SERVED if case.looped else FIXED


def _number(value: float) -> Cell:
    """Four digits, whole numbers as such; an empty cell where there is no number."""
    kept = rounded(float(value))
    if kept is None:
        return ""
    number = float(kept)
    return int(number) if number.is_integer() and abs(number) < 1e15 else number
