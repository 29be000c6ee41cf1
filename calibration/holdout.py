"""Errors on what a fit never saw: models, lengths, batches and layouts left out in turn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Rates
from calibration.fit import Fit, fit
from calibration.parameters import Prior
from calibration.problem import Problem, predict

Array = NDArray[np.float64]
PriorsWithout = Callable[[str], Sequence[Prior]]
"""Priors for a fit that must not know the named group, not even through relatives."""

EFFORT = 15
"""Evaluations of the Jacobian for a fit that starts from the full one."""


class HeldOut(NamedTuple):
    """Predictions of every case by a fit without its group; NaN where nothing could be left out."""

    predicted: Array
    fits: dict[str, Fit]


def leave_one_out(problem: Problem, full: Fit, priors: PriorsWithout) -> HeldOut:
    """Leave each group out in turn."""
    predicted = np.full((len(problem.cases), 3), np.nan)
    groups = problem.groups
    names = sorted(set(groups))
    fits: dict[str, Fit] = {}
    if len(names) < 2:
        return HeldOut(predicted, fits)
    for name in names:
        rest = groups != name
        fits[name] = fit(
            problem, priors(name), Rates.default(), start=full.point, rows=rest, effort=EFFORT
        )
        predicted[~rest] = predict(problem, fits[name].rates)[~rest]
    return HeldOut(predicted, fits)


def leave_range_out(problem: Problem, full: Fit, values: Array) -> Array:
    """Fit below the median of `values` and predict what lies above it; NaN elsewhere."""
    predicted = np.full((len(problem.cases), 3), np.nan)
    middle = np.median(values)
    above = values > middle
    if not above.any() or above.all() or len(np.unique(values)) < 3:
        return predicted
    below = fit(problem, full.priors, Rates.default(), start=full.point, rows=~above, effort=EFFORT)
    predicted[above] = predict(problem, below.rates)[above]
    return predicted


def length(problem: Problem) -> Array:
    """Prompt and output tokens of each case."""
    return np.array(
        [c.workload.input_tokens + c.workload.output_tokens for c in problem.cases], dtype=float
    )


def batch(problem: Problem) -> Array:
    """Sequences of each case."""
    return np.array([c.workload.batch for c in problem.cases], dtype=float)


def devices(problem: Problem) -> Array:
    """Devices of each case."""
    return np.array([c.plan.devices for c in problem.cases], dtype=float)


RANGES: dict[str, Callable[[Problem], Array]] = {
    "longer": length,
    "larger batches": batch,
    "more devices": devices,
}


def geomean_error(predicted: Array, measured: Array) -> float:
    """exp(mean |ln(predicted/measured)|) − 1 over what both have; NaN where there is nothing."""
    ratios = log_ratios(predicted, measured)
    return float(np.exp(np.mean(np.abs(ratios))) - 1.0) if len(ratios) else float("nan")


def bias(predicted: Array, measured: Array) -> float:
    """exp(mean ln(predicted/measured)) − 1: above 0 where predictions are too slow."""
    ratios = log_ratios(predicted, measured)
    return float(np.exp(np.mean(ratios)) - 1.0) if len(ratios) else float("nan")


def mape(predicted: Array, measured: Array) -> float:
    """mean |predicted/measured − 1|."""
    ratios = log_ratios(predicted, measured)
    return float(np.mean(np.abs(np.exp(ratios) - 1.0))) if len(ratios) else float("nan")


def log_ratios(predicted: Array, measured: Array) -> Array:
    """ln(predicted/measured) of the cases that have both, flattened."""
    both = np.isfinite(predicted) & np.isfinite(measured)
    ratios: Array = np.log(predicted[both] / measured[both])
    return ratios
