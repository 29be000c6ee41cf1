"""What the calibration is worth beside what anybody could do without one."""

from __future__ import annotations

from collections.abc import Sequence

from calibration.problem import METRICS
from calibration.scored import (
    COPIED,
    DEFAULT,
    FACTOR,
    FACTOR_OUT,
    IDEAL,
    OURS,
    OURS_OUT,
    SCALED,
    UNSEEN,
    Scored,
)
from reports.validate.pick import LOADS, NAMES, Mask, held_out, rows
from reports.validate.table import Cell, Section, Table, table

WAYS = (IDEAL, DEFAULT, FACTOR, FACTOR_OUT, COPIED, SCALED, UNSEEN, OURS, OURS_OUT)
TEXT = (
    "Every way of predicting is scored on the same rows: those of (system, engine) groups with at "
    "least two models, so that each row has a prediction by a fit that never saw its model.",
    "- ideal: every peak reached, no overhead\n"
    "- default 0.6: one efficiency of 0.6 for everything, what an uncalibrated tool assumes\n"
    "- one factor: the single efficiency that suits the group best, fitted to all its rows, and "
    "to the rows of the other models only\n"
    "- nearest row: the time measured at the nearest other model of the same group (size, batch, "
    "lengths, devices, weight format), as it stands, and scaled by the ratio of ideal times\n"
    "- ours, system unseen: rates pooled over other systems only\n"
    "- ours: fitted to all rows (in-sample), and to the other models only (held out)",
)


def baselines(scored: Sequence[Scored]) -> Section:
    """The table of baselines, for fixed batches and for serving."""
    made = tuple(_table(scored, name, held_out(mask)) for name, mask in LOADS.items())
    return Section("baselines", "Beside the baselines", TEXT, made)


def _table(scored: Sequence[Scored], name: str, mask: Mask) -> Table:
    columns = ["way"]
    for metric in METRICS:
        columns += [f"{NAMES[metric]} rows:count", f"geomean error {NAMES[metric]}:percent"]
        columns += [f"MAPE {NAMES[metric]}:percent"]
    return table(
        name.replace(" ", "_"),
        columns,
        [_line(scored, way, mask) for way in WAYS],
        f"**{name.capitalize()}**, all groups together",
    )


def _line(scored: Sequence[Scored], way: str, mask: Mask) -> list[Cell]:
    cells: list[Cell] = [way]
    for metric in METRICS:
        found = rows(scored, way, metric, mask).tally
        cells += [found.rows, found.geomean, found.mape]
    return cells
