"""The best that one efficiency for everything can do: fitted to a group, each model left out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Rates
from calibration.problem import Problem, predict

Array = NDArray[np.float64]

COARSE = np.geomspace(0.005, 1.0, 20)
"""Efficiencies at which times are worked out; between them ln(time) is close to a line."""
STEPS = 20


class OneFactor:
    """Times of one group as a function of a single efficiency."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        times = np.log([predict(problem, Rates.single(float(eff))) for eff in COARSE])
        fine = np.linspace(np.log(COARSE[0]), np.log(COARSE[-1]), len(COARSE) * STEPS)
        self.efficiencies = np.exp(fine)
        self.times = _interpolated(fine, np.log(COARSE), times)
        self.errors = np.abs(self.times - np.log(problem.observed))

    def best(self, rows: NDArray[np.bool_]) -> int:
        """Index of the efficiency with the least mean |ln ratio| on some rows."""
        errors = self.errors[:, rows].reshape(len(self.efficiencies), -1)
        used = np.isfinite(errors[0])
        return int(np.argmin(errors[:, used].mean(axis=1)))

    def in_sample(self) -> Array:
        """Predictions by the efficiency that suits all rows best."""
        everything = np.ones(len(self.problem.cases), dtype=bool)
        found: Array = np.exp(self.times[self.best(everything)])
        return found

    def held_out(self) -> Array:
        """Each model's rows predicted by the efficiency that suits the others best."""
        groups = self.problem.groups
        predicted = np.full(self.problem.observed.shape, np.nan)
        names = np.unique(groups)
        if len(names) < 2:
            return predicted
        for name in names:
            mine = groups == name
            if np.isfinite(self.errors[0][~mine]).any():
                predicted[mine] = np.exp(self.times[self.best(~mine)][mine])
        return predicted


def _interpolated(at: Array, known: Array, values: Array) -> Array:
    """Linear interpolation along the first axis."""
    right = np.clip(np.searchsorted(known, at), 1, len(known) - 1)
    share = (at - known[right - 1]) / (known[right] - known[right - 1])
    shaped = share.reshape(-1, *([1] * (values.ndim - 1)))
    mixed: Array = values[right - 1] * (1 - shaped) + values[right] * shaped
    return mixed
