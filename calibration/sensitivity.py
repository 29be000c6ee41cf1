"""How predictions move with the rates: the derivative that identifiability and designs rest on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Rates
from calibration.parameters import Prior, to_rates
from calibration.problem import Problem, predict

Array = NDArray[np.float64]

STEP = 0.01
"""Of the fitting scale: a hundredth of a rate."""


def log_jacobian(
    problem: Problem, priors: Sequence[Prior], point: Array, base: Rates | None = None
) -> Array:
    """d ln(ttft_s, tpot_s, e2e_s) / d point of every case, shape (cases, 3, rates)."""
    held = Rates.default() if base is None else base
    columns = []
    for index in range(len(priors)):
        above, below = np.array(point), np.array(point)
        above[index] += STEP
        below[index] -= STEP
        slower = predict(problem, to_rates(priors, above, held))
        faster = predict(problem, to_rates(priors, below, held))
        columns.append((np.log(slower) - np.log(faster)) / (2 * STEP))
    if not columns:
        return np.empty((len(problem.cases), 3, 0))
    return np.stack(columns, axis=-1)
