"""Rates from measurements: bounded robust least squares on log ratios, with priors.

The residual of a measurement is ln(predicted / measured), so that twice too slow and twice too fast
weigh the same and milliseconds mix with seconds. Priors enter as further residuals; the share of
each rate that comes from the data rather than from its prior is worked out from the Jacobian.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from analyzer.timing.rates import Rates
from calibration.hearsay import one_models_word
from calibration.parameters import Prior, bounds, to_rates
from calibration.problem import Problem, predict

Array = NDArray[np.float64]

MODEL_SPREAD = 0.05
"""Standard deviation in ln(time) that the form itself is allowed, whatever the data's own noise."""
TOLERANCE = 1e-4
METRIC_WEIGHT = np.array([1.0, 1.0, 1.0])
"""TTFT, TPOT, E2E of fixed batches."""
SERVED_WEIGHT = np.array([0.5, 1.0, 1.0])
"""Under load the first token waits for others, and how long is the noisiest of the three."""


class Fit(NamedTuple):
    """Fitted rates, and how well the data determined them."""

    rates: Rates
    priors: tuple[Prior, ...]
    point: Array
    """In the fitting scale."""
    deviation: Array
    """Standard deviation of each rate in the fitting scale, data and prior together."""
    data_share: Array
    """1: the data alone decide; 0: the prior does."""
    at_bound: NDArray[np.bool_]
    condition: float
    """Ratio of the largest to the smallest singular value of the data's own Jacobian."""
    cost: float


def fit(
    problem: Problem,
    priors: Sequence[Prior],
    base: Rates,
    start: Array | None = None,
    rows: NDArray[np.bool_] | None = None,
    effort: int = 60,
) -> Fit:
    """Fit the rates that `priors` name to the rows marked in `rows` (all by default)."""
    centres = np.array([entry.centre for entry in priors])
    widths = np.array([entry.width for entry in priors])
    low, high = bounds(priors)
    residuals = Residuals(problem, tuple(priors), base, rows)

    def objective(point: Array) -> Array:
        return np.concatenate((residuals(point), (point - centres) / widths))

    starts = _starts(priors, centres) if start is None else [start]
    inside = min((np.clip(x, low + 1e-6, high - 1e-6) for x in starts), key=_cost(objective))
    tried = _Search(objective, _loss(problem, len(centres)), widths, effort)
    solved = tried(inside, low, high)
    jacobian = np.asarray(solved.jac)[: -len(centres)]
    distance = (solved.x - centres) / widths
    odd = one_models_word(problem, residuals.used, jacobian * widths, distance)
    if odd.any():
        low, high = np.where(odd, centres - 1e-9, low), np.where(odd, centres + 1e-9, high)
        solved = tried(np.clip(solved.x, low + 1e-10, high - 1e-10), low, high)
        jacobian = np.where(odd, 0.0, np.asarray(solved.jac)[: -len(centres)])
    before = np.array([entry.ignorance for entry in priors])
    deviation, share = _spread(jacobian, widths, before)
    singular = np.linalg.svd(jacobian * widths, compute_uv=False)
    condition = float(singular[0] / max(singular[-1], 1e-300)) if len(singular) else float("inf")
    margin = 1e-3
    at_bound = ~odd & ((solved.x - low < margin) | (high - solved.x < margin))
    rates = to_rates(priors, solved.x, base)
    return Fit(
        rates, tuple(priors), solved.x, deviation, share, at_bound, condition, float(solved.cost)
    )


class _Search(NamedTuple):
    """Least squares within bounds."""

    objective: Callable[[Array], Array]
    loss: Any
    widths: Array
    effort: int

    def __call__(self, inside: Array, low: Array, high: Array) -> Any:
        return least_squares(
            self.objective,
            inside,
            bounds=(low, high),
            loss=self.loss,
            max_nfev=self.effort,
            x_scale=self.widths,
            ftol=TOLERANCE,
            xtol=TOLERANCE,
        )


def _loss(problem: Problem, priors: int) -> Any:
    """Robust to odd rows; under a load, not to odd rates.

    Priors are the last residuals. A loss that forgives large ones lets a handful of rows push a
    rate as far as they like, and served groups have few models to hold against them.
    """
    if not all(case.looped for case in problem.cases):
        return "soft_l1"

    def loss(squares: Array) -> Array:
        root = np.sqrt(1.0 + squares)
        value, slope, bend = 2.0 * (root - 1.0), 1.0 / root, -0.5 / root**3
        value[-priors:], slope[-priors:], bend[-priors:] = squares[-priors:], 1.0, 0.0
        return np.stack((value, slope, bend))

    return loss


HOST_BOUND_S = 3.5e-5
"""Time to issue a kernel at which most eager engines are bound by their host."""


def _starts(priors: Sequence[Prior], centres: Array) -> list[Array]:
    """The prior, and the host-bound regime: while the host hides, its cost has no gradient."""
    starts = [centres]
    names = [entry.name for entry in priors]
    if "host_launch_s" in names:
        for factor in (0.5, 1.0, 2.0):
            bound = centres.copy()
            bound[names.index("host_launch_s")] = np.log(HOST_BOUND_S * factor)
            starts.append(bound)
    return starts


def _cost(objective: Callable[[Array], Array]) -> Callable[[Array], float]:
    return lambda point: float(np.abs(objective(point)).sum())


class Residuals:
    """Weighted log ratios of the measured metrics."""

    def __init__(
        self,
        problem: Problem,
        priors: tuple[Prior, ...],
        base: Rates,
        rows: NDArray[np.bool_] | None,
    ) -> None:
        self.problem, self.priors, self.base = problem, priors, base
        measured = np.isfinite(problem.observed)
        self.used = measured if rows is None else measured & rows[:, None]
        looped = np.array([case.looped for case in problem.cases])
        by_metric = np.where(looped[:, None], SERVED_WEIGHT, METRIC_WEIGHT)
        weights = np.sqrt(problem.weights)[:, None] * by_metric / MODEL_SPREAD
        self.weights = np.broadcast_to(weights, self.used.shape)[self.used]
        self.target = np.log(problem.observed[self.used])

    def __call__(self, point: Array) -> Array:
        predicted = predict(self.problem, to_rates(self.priors, point, self.base))
        ratio: Array = (np.log(predicted[self.used]) - self.target) * self.weights
        return ratio


def _spread(jacobian: Array, widths: Array, before: Array) -> tuple[Array, Array]:
    """Posterior deviation and share of information from the data, by linearisation; `before` is
    how little was known before the first of them."""
    information = jacobian.T @ jacobian
    prior = np.diag(1.0 / widths**2)
    covariance = np.linalg.inv(information + prior)
    deviation = np.sqrt(np.diag(covariance))
    share = 1.0 - (deviation / before) ** 2
    return deviation, np.clip(share, 0.0, 1.0)
