"""What to measure next: the few points that narrow the interval of a question most.

I-optimal design: candidates are taken one by one, and then exchanged, so that the variance of
ln(time) summed over the question is least once they are measured. What a point would teach follows
from the prior on the rates, the derivative of the predictions, and how alike rows are (`own.py`);
its outcome is not needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.own import FIXED, SERVED, Habits, coordinates, residual_covariance
from calibration.parameters import Prior
from calibration.problem import Problem
from calibration.sensitivity import log_jacobian

Array = NDArray[np.float64]

WEIGHTS = (0.5, 1.0)
"""Of the variances of TTFT and TPOT in what a design minimises; E2E follows from both."""
MEASURED = len(WEIGHTS)
ROUNDS = 3
Z90 = 1.6449


class Design(NamedTuple):
    """Chosen candidates, and what they are worth before any of them is measured."""

    chosen: tuple[int, ...]
    before: Array
    """Half-width of the 90 % interval of TTFT and TPOT, mean over the question, as a fraction."""
    after: Array


def uncertainty(problem: Problem, priors: Sequence[Prior], habits: Habits) -> Array:
    """Covariance of ln TTFT and ln TPOT between all cases, shape (2·cases, 2·cases)."""
    point = np.array([entry.centre for entry in priors])
    width = np.array([entry.width for entry in priors])
    count = len(problem.cases)
    slope = log_jacobian(problem, priors, point)[:, :MEASURED, :] * width
    flat = slope.reshape(MEASURED * count, -1)
    where = np.repeat(coordinates(problem), MEASURED, axis=0)
    metric = np.tile(np.arange(MEASURED), count)
    return np.asarray(flat @ flat.T + residual_covariance(where, metric, habits))


def design(
    problem: Problem,
    priors: Sequence[Prior],
    count: int,
    question: NDArray[np.bool_] | None = None,
    fixed: Sequence[int] = (),
) -> Design:
    """Choose `count` cases to measure so that those of the `question` (all) become surest.

    `fixed` are cases that are measured already and stay.
    """
    looped = any(case.looped for case in problem.cases)
    habits = SERVED if looped else FIXED
    known = uncertainty(problem, priors, habits)
    asked = np.ones(len(problem.cases), dtype=bool) if question is None else question
    search = _Search(known, habits.noise[:MEASURED] ** 2, asked)
    chosen = search.best(min(count, len(problem.cases) - len(fixed)), fixed)
    left = search.after([*fixed, *chosen])
    return Design(tuple(chosen), _half_width(known, asked), _half_width(left, asked))


def _half_width(covariance: Array, asked: NDArray[np.bool_]) -> Array:
    deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0)).reshape(-1, MEASURED)[asked]
    return np.asarray(np.expm1(Z90 * deviation.mean(axis=0)))


class _Search:
    """Greedy choice and exchange on one covariance."""

    def __init__(self, known: Array, noise: Array, asked: NDArray[np.bool_]) -> None:
        self.known, self.noise = known, noise
        self.weights = (asked[:, None] * np.array(WEIGHTS)).ravel()

    def best(self, count: int, fixed: Sequence[int]) -> list[int]:
        """Indices of the chosen cases."""
        chosen: list[int] = []
        left = self.after(fixed)
        for _ in range(count):
            chosen.append(self._next(left, [*fixed, *chosen]))
            left = self._told(left, chosen[-1])
        for _ in range(ROUNDS):
            before = sorted(chosen)
            for place in range(len(chosen)):
                others = [*fixed, *chosen[:place], *chosen[place + 1 :]]
                chosen[place] = self._next(self.after(others), others)
            if sorted(chosen) == before:
                break
        return chosen

    def after(self, told: Sequence[int]) -> Array:
        """What stays unknown when these cases are measured."""
        left = self.known
        for case in told:
            left = self._told(left, case)
        return left

    def _told(self, left: Array, case: int) -> Array:
        rows = slice(case * MEASURED, (case + 1) * MEASURED)
        across = left[:, rows]
        inner = left[rows, rows] + np.diag(self.noise)
        return np.asarray(left - across @ np.linalg.solve(inner, across.T))

    def _next(self, left: Array, taken: Sequence[int]) -> int:
        """The case that takes most off the question's weighted variance."""
        count = len(left) // MEASURED
        blocks = left.reshape(len(left), count, MEASURED)
        shared = np.einsum("qia,q,qib->iab", blocks, self.weights, blocks)
        inner = np.array(
            [left[MEASURED * i : MEASURED * (i + 1), MEASURED * i : MEASURED * (i + 1)]
             for i in range(count)]
        ) + np.diag(self.noise)  # fmt: skip
        gains = np.trace(np.linalg.solve(inner, shared), axis1=1, axis2=2)
        gains[list(taken)] = -np.inf
        return int(np.argmax(gains))
