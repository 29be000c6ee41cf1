"""A few points of one's own: what they change in rates that never saw this model on this machine.

The rates of a (system, engine) are the prior; those of one model on one's own machine lie around
them. What rates cannot explain is a residual that is alike for similar rows, so a point also speaks
for its neighbourhood. Both are normal, which makes the update a handful of matrix products, and
says before anything is measured how much a point would teach (see `suggest.py`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from analyzer import precision
from analyzer.calibrated import Calibration
from analyzer.counting.parameters import count_parameters
from analyzer.timing.rates import Rates
from calibration.families import Belief
from calibration.fit import Fit
from calibration.parameters import GENERIC, Prior, bounds, to_rates
from calibration.problem import Problem, predict
from calibration.sensitivity import log_jacobian

Array = NDArray[np.float64]


class Habits(NamedTuple):
    """Standard deviations in ln(time) of TTFT, TPOT and E2E, found by maximum likelihood on the
    corpus: what a model left out differs in from what the others taught."""

    rates: float
    """Of a rate, in widths of its generic prior."""
    constant: Array
    """Of a residual that all rows share."""
    local: Array
    """Of a residual that only similar rows share."""
    noise: Array
    """Of a residual of one row alone."""


SERVED = Habits(
    0.6, np.array([0.2, 0.06, 0.06]), np.array([0.7, 0.2, 0.2]), np.array([0.2, 0.06, 0.06])
)
FIXED = Habits(
    0.45, np.array([0.03, 0.02, 0.02]), np.array([0.1, 0.04, 0.04]), np.array([0.1, 0.05, 0.05])
)
REACH = {
    "model": 0.7,
    "batch": 2.0,
    "input_tokens": 1.5,
    "output_tokens": 1.5,
    "tp": 1.2,
    "dp": 1.2,
    "bits": 0.7,
    "ep": 1.0,
    "attention_dp": 1.0,
}
"""Over which distance, in ln, rows are alike."""
ODD = 3.0
"""Deviations from what the others imply beyond which a measured entry is not believed."""
ENTRIES_PER_ODD = 8
"""Of so many measured entries one may be set aside."""
EFFORT = 25
EDGE = 1e-6


def own_priors(names: Iterable[str], known: dict[str, Belief], spread: float) -> list[Prior]:
    """Beliefs about one's own rates: around what is known of the (system, engine)."""
    made = []
    for name in names:
        generic = GENERIC[name]
        belief = known.get(name, Belief(generic.centre, generic.width, 0.0))
        width = float(np.hypot(belief.deviation, spread * generic.width))
        made.append(Prior(name=name, centre=belief.point, width=width))
    return made


def priors_around(system: str, engine: str, problem: Problem) -> list[Prior]:
    """Beliefs about one's own rates, around the calibration that serves the system and engine."""
    from analyzer.calibrated import find
    from calibration.relevant import relevant

    found = find(system, engine).calibration
    known = {} if found is None else beliefs_in(found)
    return own_priors(relevant(problem), known, habits_of(problem).rates)


def habits_of(problem: Problem) -> Habits:
    """How much rows of this kind may differ."""
    return SERVED if any(case.looped for case in problem.cases) else FIXED


class Own(NamedTuple):
    """Rates and residuals learnt from a few points."""

    priors: tuple[Prior, ...]
    point: Array
    """Rates in the fitting scale."""
    rates: Rates
    where: Array
    """Coordinates of the points, and which metric each entry below is of."""
    metric: NDArray[np.intp]
    pull: Array
    """What each measured entry adds to the residual of its neighbours."""
    habits: Habits
    aside: tuple[tuple[int, int], ...] = ()
    """Case and metric of the measured entries that were not believed."""

    def predict(self, problem: Problem) -> Array:
        """Times of other cases, shape (cases, 3)."""
        times = predict(problem, self.rates)
        return np.asarray(times * np.exp(self.residual(problem)))

    def residual(self, problem: Problem) -> Array:
        """ln factor on the times of the rates, shape (cases, 3)."""
        there = coordinates(problem)
        found = np.zeros((len(there), 3))
        if not len(self.where):
            return found
        alike = _alike(there, self.where)
        for index in range(3):
            mine = self.metric == index
            shared = self.habits.constant[index] ** 2 + self.habits.local[index] ** 2 * alike
            found[:, index] = shared[:, mine] @ self.pull[mine]
        return found


def learn(problem: Problem, priors: Sequence[Prior], habits: Habits | None = None) -> Own:
    """Update `priors` by the measured entries of a problem of few cases.

    An entry that all others and the priors make most unlikely is set aside, the oddest first: a
    server that once was full for half a minute says nothing of the rows like it.
    """
    kind = habits_of(problem) if habits is None else habits
    left = problem
    aside: list[tuple[int, int]] = []
    most = int(np.isfinite(problem.observed).sum()) // ENTRIES_PER_ODD
    while True:
        found = _update(left, priors, kind)
        odd = _oddest(left, found) if len(aside) < most else None
        if odd is None:
            return found._replace(aside=tuple(aside))
        aside.append(odd)
        observed = left.observed.copy()
        observed[odd] = np.nan
        left = left._replace(observed=observed)


def _oddest(problem: Problem, found: Own) -> tuple[int, int] | None:
    """Case and metric of the entry farthest from what the others imply, if it is too far."""
    measured = np.isfinite(problem.observed)
    if not measured.any():
        return None
    centre = np.array([entry.centre for entry in found.priors])
    width = np.array([entry.width for entry in found.priors])
    moved = log_jacobian(problem, found.priors, found.point)[measured]
    times = predict(problem, found.rates)[measured]
    off = np.log(problem.observed[measured] / times) + moved @ (found.point - centre)
    beside = residual_covariance(found.where, found.metric, found.habits)
    noise = np.diag(found.habits.noise[found.metric] ** 2)
    precision = np.linalg.inv((moved * width**2) @ moved.T + beside + noise)
    distance = np.abs(precision @ off) / np.sqrt(np.diag(precision))
    at = int(np.argmax(distance))
    case, metric = np.argwhere(measured)[at]
    return (int(case), int(metric)) if distance[at] > ODD else None


def _update(problem: Problem, priors: Sequence[Prior], kind: Habits) -> Own:
    measured = np.isfinite(problem.observed)
    centre = np.array([entry.centre for entry in priors])
    width = np.array([entry.width for entry in priors])
    low, high = bounds(priors)
    metric = np.nonzero(measured)[1]
    where = np.repeat(coordinates(problem), measured.sum(axis=1), axis=0)
    beside = residual_covariance(where, metric, kind) + np.diag(kind.noise[metric] ** 2)
    root = np.asarray(np.linalg.cholesky(beside), dtype=np.float64)
    target = np.log(problem.observed[measured])

    def misses(point: Array) -> Array:
        times = predict(problem, to_rates(priors, point, Rates.default()))
        return np.asarray(target - np.log(times[measured]))

    def whitened(point: Array) -> Array:
        apart = np.linalg.solve(root, misses(point))
        return np.concatenate((apart, (point - centre) / width))

    def slope(point: Array) -> Array:
        moved = log_jacobian(problem, priors, point)[measured]
        return np.concatenate((-np.linalg.solve(root, moved), np.diag(1.0 / width)))

    start = np.clip(centre, low + EDGE, high - EDGE)
    point = least_squares(
        whitened, start, slope, (low, high), x_scale=width, max_nfev=EFFORT, ftol=1e-3, xtol=1e-3
    ).x
    pull = np.asarray(np.linalg.solve(beside, misses(point)), dtype=np.float64)
    rates = to_rates(priors, point, Rates.default())
    return Own(tuple(priors), point, rates, where, metric, pull, kind)


def residual_covariance(where: Array, metric: NDArray[np.intp], habits: Habits) -> Array:
    """Covariance of what rates do not explain, between entries of `metric` at `where`."""
    shared = habits.constant[metric] ** 2 + habits.local[metric] ** 2 * _alike(where, where)
    return np.asarray(np.where(metric[:, None] == metric[None, :], shared, 0.0))


def coordinates(problem: Problem) -> Array:
    """Where cases lie, in units of the distance over which rows are alike."""
    sizes = {case.model.name: float(count_parameters(case.model).active) for case in problem.cases}
    rows = [
        (
            np.log(sizes[case.model.name]),
            np.log(case.workload.batch / case.plan.dp),
            np.log(max(case.workload.input_tokens, 1.0)),
            np.log(max(case.workload.output_tokens, 1.0)),
            np.log(case.plan.tp),
            np.log(case.plan.dp),
            np.log(precision.lookup(case.plan.weights).bits),
            float(case.plan.ep > 1),
            float(case.plan.attention_dp > 1),
        )
        for case in problem.cases
    ]
    return np.asarray(np.array(rows, dtype=np.float64) / np.array(list(REACH.values())))


def _alike(first: Array, second: Array) -> Array:
    """1 for rows in the same place, 0 for rows far from each other."""
    squares = ((first[:, None, :] - second[None, :, :]) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-0.5 * squares))


def beliefs_in(found: Calibration | Fit) -> dict[str, Belief]:
    """What a calibration file or a fit says of each rate, in the fitting scale."""
    from calibration.families import beliefs_of
    from calibration.run import belief

    if isinstance(found, Fit):
        return beliefs_of(found)
    return {
        name: belief(name, rate.value, rate.low, rate.high, rate.data_share)
        for name, rate in found.rates.items()
    }
