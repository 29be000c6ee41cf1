"""Robust least squares over many groups at once, with one normal belief over all their rates.

Rows of one group depend on its own rates only, so that the Jacobian is taken group by group; what
ties the groups is the belief. Steps are those of Gauss and Newton, damped where they do not help;
the loss of rows is soft_l1, that of the belief squared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STEP = 3e-4
"""Of the fitting scale, for derivatives."""
EDGE = 1e-6
"""Points keep this far inside their bounds."""
ENOUGH = 2e-4
"""A step that gains less than this share of the cost is the last."""
CALM, MOST, FASTER, SLOWER = 1e-3, 6, 0.2, 8.0
"""Damping at first, damped trials of one step, and what success and failure do to the damping."""


class Part(NamedTuple):
    """One group: its weighted residuals as a function of its own rates, and where those stand."""

    residuals: Callable[[Array], Array]
    place: slice


class Told(NamedTuple):
    """What one group's rows say where the fit ended."""

    information: Array
    slope: Array
    """Gradient of half their loss."""
    cost: float
    jacobian: Array


class Solved(NamedTuple):
    """Where the fit ended."""

    point: Array
    covariance: Array
    told: tuple[Told, ...]
    cost: float


def minimise(
    parts: Sequence[Part],
    centre: Array,
    precision: Array,
    ends: tuple[Array, Array],
    begin: Array,
    effort: int,
) -> Solved:
    """Least loss of all rows and of the distance from `centre`, within `ends`, from `begin` on."""
    search = _Search(parts, centre, precision, ends[0] + EDGE, ends[1] - EDGE)
    now = search.at(np.clip(begin, search.low, search.high))
    damping = CALM
    for _ in range(effort):
        told = search.told(now)
        following, damping = search.step(now, told, damping)
        if following is None:
            break
        gained, now = now.cost - following.cost, following
        if gained < ENOUGH * now.cost:
            break
    told = search.told(now)
    covariance = np.asarray(np.linalg.inv(search.curvature(told)))
    return Solved(now.point, covariance, told, now.cost)


class _Point(NamedTuple):
    point: Array
    misses: tuple[Array, ...]
    cost: float


class _Search(NamedTuple):
    parts: Sequence[Part]
    centre: Array
    precision: Array
    low: Array
    high: Array

    def at(self, point: Array) -> _Point:
        """Residuals and cost at a point."""
        misses = tuple(part.residuals(point[part.place]) for part in self.parts)
        off = point - self.centre
        return _Point(point, misses, sum(map(_loss, misses)) + float(off @ self.precision @ off))

    def told(self, now: _Point) -> tuple[Told, ...]:
        """What each group's rows say at a point."""
        return tuple(
            self._told(part, now.point[part.place], missed)
            for part, missed in zip(self.parts, now.misses, strict=True)
        )

    def _told(self, part: Part, point: Array, missed: Array) -> Told:
        jacobian = np.empty((len(missed), len(point)))
        for index in range(len(point)):
            moved = point.copy()
            step = STEP if moved[index] + STEP < self.high[part.place][index] else -STEP
            moved[index] += step
            jacobian[:, index] = (part.residuals(moved) - missed) / step
        heard = 1.0 / np.sqrt(1.0 + missed**2)
        return Told(
            jacobian.T @ (jacobian * heard[:, None]),
            jacobian.T @ (missed * heard),
            _loss(missed),
            jacobian,
        )

    def curvature(self, told: Sequence[Told]) -> Array:
        """Of half the cost."""
        found = self.precision.copy()
        for part, one in zip(self.parts, told, strict=True):
            found[part.place, part.place] += one.information
        return found

    def step(
        self, now: _Point, told: Sequence[Told], damping: float
    ) -> tuple[_Point | None, float]:
        """The next point, None where there is no better one, and the damping from then on."""
        curvature = self.curvature(told)
        slope = self.precision @ (now.point - self.centre)
        for part, one in zip(self.parts, told, strict=True):
            slope[part.place] += one.slope
        for _ in range(MOST):
            moved = self._moved(now.point, curvature, slope, damping)
            tried = self.at(moved)
            if tried.cost < now.cost:
                return tried, max(damping * FASTER, EDGE)
            damping = max(damping * SLOWER, CALM)
        return None, damping

    def _moved(self, point: Array, curvature: Array, slope: Array, damping: float) -> Array:
        """A damped step; rates that it would push out through a bound stay there."""
        damped = curvature + damping * np.diag(np.diag(curvature))
        free = np.ones(len(point), dtype=bool)
        for _ in range(3):
            moved = point.copy()
            moved[free] -= np.linalg.solve(damped[np.ix_(free, free)], slope[free])
            out = (moved < self.low) & (point <= self.low + EDGE)
            out |= (moved > self.high) & (point >= self.high - EDGE)
            if not (out & free).any():
                break
            free &= ~out
        return np.asarray(np.clip(moved, self.low, self.high))


def _loss(missed: Array) -> float:
    return float(2.0 * (np.sqrt(1.0 + missed**2) - 1.0).sum())
