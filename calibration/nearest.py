"""The nearest measured neighbour: what a look-up in the same data would have said.

Models are left out whole, as they are for the fits. Two look-ups: the neighbour's time as it was
measured, and that time scaled by the ratio of the two rows' times at every peak reached, which
assumes that a neighbour uses the machine as well as oneself would.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer import precision
from analyzer.counting.parameters import count_parameters
from analyzer.timing.rates import Rates
from calibration.problem import Problem, predict

Array = NDArray[np.float64]

OTHER_FORMAT = 2.0
"""Distance, in ln, that another weight format adds."""


def features(problem: Problem) -> Array:
    """Where each case lies: logarithms of everything a user would look up by."""
    sizes: dict[str, float] = {}
    rows = []
    for case in problem.cases:
        if case.model.name not in sizes:
            sizes[case.model.name] = float(count_parameters(case.model).active)
        load, plan = case.workload, case.plan
        rows.append(
            [
                np.log(sizes[case.model.name]),
                np.log(load.batch),
                np.log(max(load.input_tokens, 1.0)),
                np.log(max(load.output_tokens, 1.0)),
                np.log(plan.devices),
                OTHER_FORMAT * np.log2(precision.lookup(plan.weights).bits),
            ]
        )
    return np.array(rows)


def neighbours(problem: Problem) -> NDArray[np.intp]:
    """Index of the nearest measured row of another model, per case and metric; −1 for none."""
    where, groups = features(problem), problem.groups
    measured = np.isfinite(problem.observed)
    found = np.full(problem.observed.shape, -1, dtype=np.intp)
    for index in range(len(problem.cases)):
        distance = np.abs(where - where[index]).sum(axis=1)
        distance[groups == groups[index]] = np.inf
        for metric in range(problem.observed.shape[1]):
            able = np.where(measured[:, metric], distance, np.inf)
            best = int(np.argmin(able))
            if np.isfinite(able[best]):
                found[index, metric] = best
    return found


def nearest(problem: Problem) -> tuple[Array, Array]:
    """Predicted times of every case: the neighbour's own, and scaled by the ratio of ideals."""
    which = neighbours(problem)
    columns = np.arange(problem.observed.shape[1])[None, :]
    with np.errstate(invalid="ignore"):
        ideal = predict(problem, Rates.ideal())
        copied = np.where(which >= 0, problem.observed[which, columns], np.nan)
        scaled = copied * ideal / ideal[which, columns]
    return copied, scaled
