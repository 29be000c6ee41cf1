"""What a set of predictions is worth, in figures whose definitions are printed beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.holdout import log_ratios

Array = NDArray[np.float64]

DEFINITIONS: dict[str, str] = {
    "ratio": "predicted / measured",
    "geomean error": "exp(mean |ln ratio|) − 1; twice too slow and twice too fast weigh the same",
    "MAPE": "mean |ratio − 1|; what papers print; too fast can cost at most 100 %",
    "bias": "exp(mean ln ratio) − 1; above 0: predicted too slow",
    "median": "median of |ratio − 1|",
    "p90": "90th percentile of |ratio − 1|",
    "geomean of % errors": (
        "exp(mean ln |ratio − 1|), each error taken for at least 0.01 %: the statistic behind "
        "GenZ's 5.82 %; near-hits pull it down, so it is shown for comparison only"
    ),
}
LEAST_ERROR = 1e-4
"""Smallest error that counts in the geomean of percentage errors."""


class Tally(NamedTuple):
    """Errors of one set of predictions, as fractions; NaN throughout where there are none."""

    rows: int
    geomean: float
    mape: float
    bias: float
    median: float
    p90: float
    geomean_of_errors: float


def tally(predicted: Array, measured: Array) -> Tally:
    """Errors over the entries that both have."""
    ratios = log_ratios(predicted, measured)
    if not len(ratios):
        nothing = float("nan")
        return Tally(0, nothing, nothing, nothing, nothing, nothing, nothing)
    errors = np.abs(np.expm1(ratios))
    return Tally(
        rows=len(ratios),
        geomean=float(np.expm1(np.mean(np.abs(ratios)))),
        mape=float(np.mean(errors)),
        bias=float(np.expm1(np.mean(ratios))),
        median=float(np.median(errors)),
        p90=float(np.quantile(errors, 0.9)),
        geomean_of_errors=float(np.exp(np.mean(np.log(np.maximum(errors, LEAST_ERROR))))),
    )


class Clusters(NamedTuple):
    """Summed |ln ratio| and number of rows of each held-out model of one group."""

    total: Array
    rows: Array


def clusters(predicted: Array, measured: Array, groups: NDArray[np.str_]) -> Clusters:
    """Rows gathered by what was left out together."""
    both = np.isfinite(predicted) & np.isfinite(measured)
    ratios = np.abs(np.log(predicted[both] / measured[both]))
    _, position = np.unique(groups[both], return_inverse=True)
    count = int(position.max()) + 1 if len(position) else 0
    return Clusters(
        np.bincount(position, weights=ratios, minlength=count).astype(np.float64),
        np.bincount(position, minlength=count).astype(np.float64),
    )


RESAMPLES = 2000
SEED = 20261120


def median_interval(groups: Sequence[Clusters], level: float = 0.9) -> tuple[float, float]:
    """Cluster-bootstrap interval of the median over groups of their geomean errors.

    Groups are drawn with replacement, and in every group drawn its models are: rows of one model
    are not independent, and groups are a sample of the machines that there are.
    """
    random = np.random.default_rng(SEED)
    medians = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        drawn = random.integers(0, len(groups), len(groups))
        medians[index] = np.median([_resampled(groups[which], random) for which in drawn])
    low, high = np.quantile(medians, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(group: Clusters, random: np.random.Generator) -> float:
    drawn = random.integers(0, len(group.rows), len(group.rows))
    return float(np.expm1(group.total[drawn].sum() / group.rows[drawn].sum()))
