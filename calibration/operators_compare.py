"""How well each source does on shapes that it has not seen: the same held-out rows for all."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from analyzer.errors import TooFewGroups
from analyzer.sources.describe import COORDINATES, scaled
from analyzer.sources.neighbours import CHOSEN, cloud
from analyzer.sources.operator_rows import OperatorRows
from analyzer.sources.operator_work import FORM_OF, shape_rows
from analyzer.sources.table import gate_rows
from analyzer.timing.kernels import FORMS, Chip
from analyzer.timing.kernels.common import Array
from calibration.operators import FOLDS, LEAST_FOR_RESIDUAL, fixed_parameters, take
from calibration.operators_residual import fit_residual
from calibration.operators_routing import labelled_rows
from calibration.operators_solve import solve


class Compared(NamedTuple):
    """Log errors (predicted over measured) of every gated row, each held out once."""

    rows: OperatorRows
    analytic: Array
    residual: Array
    table: Array
    """NaN beyond the shapes that were left to learn from."""


def compare(rows: OperatorRows, chip: Chip) -> Compared:
    """Hold whole shapes out of one class and ask `analytic` (the form), `residual` and `table`."""
    from sklearn.model_selection import GroupKFold

    rows = gate_rows(labelled_rows(rows, chip)[0], chip, {})
    op, dtype = str(rows.text["op"][0]), str(rows.text["dtype"][0])
    shaped = shape_rows(rows, op, dtype, chip)
    form = FORMS[FORM_OF.get(op, op)]
    columns = [shaped.feature_names.index(name) for name in COORDINATES[op]]
    result = Compared(rows, *(np.full(len(rows), np.nan) for _ in range(3)))
    fixed = fixed_parameters(form, shaped)
    groups = min(FOLDS, len(np.unique(shaped.groups)))
    if groups < 2:
        raise TooFewGroups("all rows have one shape; none can be held out")
    for train, test in GroupKFold(groups).split(rows.seconds, groups=shaped.groups):
        solved = solve(form, take(shaped.work, train), chip, rows.seconds[train], fixed, 1)
        off = np.log(rows.seconds / form.time(shaped.work, chip, solved.params))
        result.analytic[test] = -off[test]
        result.residual[test] = -off[test]
        if len(train) >= LEAST_FOR_RESIDUAL:
            learnt = fit_residual(shaped.features[train], off[train], shaped.feature_names)
            result.residual[test] += np.log(learnt.correct(shaped.features[test]).factor)
        at = scaled(op, shaped.features[:, columns])
        found = cloud(at[train], off[train], CHOSEN.get(op)).at(at[test])
        result.table[test] = np.where(
            found.inside & (found.beyond == 0), found.value - off[test], np.nan
        )
    return result
