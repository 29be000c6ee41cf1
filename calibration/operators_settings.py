"""Chooses how tables interpolate: on some devices, so that others can be scored without a thumb.

The kernel form is fitted once per fold; every candidate then interpolates the same ratios between
the same shapes, and the one that is nearest on held-out shapes, over all devices, is chosen.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analyzer.sources.describe import COORDINATES, scaled
from analyzer.sources.neighbours import Settings, cloud
from analyzer.sources.operator_rows import OperatorRows
from analyzer.sources.operator_work import FORM_OF, shape_rows
from analyzer.sources.table import gate_rows
from analyzer.timing.kernels import FORMS, Chip
from analyzer.timing.kernels.common import Array
from calibration.operators import FOLDS, fixed_parameters, take
from calibration.operators_solve import solve


class Fold(NamedTuple):
    """Whole shapes held out of one class: octaves and log ratios, seen and unseen."""

    op: str
    seen_at: Array
    seen: Array
    unseen_at: Array
    unseen: Array


class Candidate(NamedTuple):
    """A way to interpolate; `nearness` is how far apart an octave of each coordinate counts."""

    settings: Settings
    nearness: tuple[float, ...] | None = None


def candidates(op: str) -> list[Candidate]:
    """What is tried: a small grid around planes through a few dozen neighbours."""
    grids = itertools.product((12, 16, 24, 36), (0.005, 0.02, 0.08), (0.01, 0.05, 0.2))
    stretches: list[tuple[float, ...] | None] = [None]
    if op == "gemm":
        stretches = [(1.0, 1.0, 1.0), (2.0, 1.0, 0.7), (3.0, 1.0, 0.7), (2.0, 1.0, 1.0)]
    return [Candidate(Settings(*grid), near) for grid in grids for near in stretches]


def folds(rows: OperatorRows, chip: Chip) -> list[Fold]:
    """The held-out shapes of one class on one device."""
    from sklearn.model_selection import GroupKFold

    rows = gate_rows(rows, chip, {})
    op, dtype = str(rows.text["op"][0]), str(rows.text["dtype"][0])
    shaped = shape_rows(rows, op, dtype, chip)
    form = FORMS[FORM_OF.get(op, op)]
    fixed = fixed_parameters(form, shaped)
    places = shaped.features[:, [shaped.feature_names.index(name) for name in COORDINATES[op]]]
    held = []
    groups = min(FOLDS, len(np.unique(shaped.groups)))
    for train, test in GroupKFold(groups).split(rows.seconds, groups=shaped.groups):
        solved = solve(form, take(shaped.work, train), chip, rows.seconds[train], fixed, 1)
        off = np.log(rows.seconds / form.time(shaped.work, chip, solved.params))
        held.append(Fold(op, places[train], off[train], places[test], off[test]))
    return held


def error(held: Sequence[Fold], candidate: Candidate) -> float:
    """Mean |ln| over the unseen shapes inside of the seen ones."""
    off = []
    for fold in held:
        seen_at = scaled(fold.op, fold.seen_at, candidate.nearness)
        unseen_at = scaled(fold.op, fold.unseen_at, candidate.nearness)
        found = cloud(seen_at, fold.seen, candidate.settings).at(unseen_at)
        known = found.inside & (found.beyond == 0)
        off.append(np.abs(found.value - fold.unseen)[known])
    return float(np.concatenate(off).mean())


def choose(op: str, devices: Sequence[Sequence[Fold]]) -> tuple[Candidate, float]:
    """The candidate with the least mean error over the devices, each counting once."""
    tried = [
        (float(np.mean([error(held, candidate) for held in devices])), index, candidate)
        for index, candidate in enumerate(candidates(op))
    ]
    best_error, _, best = min(tried, key=lambda entry: entry[:2])
    return best, best_error
