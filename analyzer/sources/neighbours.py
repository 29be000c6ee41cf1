"""Interpolation between measured shapes: a plane through the nearest ones, in logarithms.

What is interpolated is the ratio of measured to modelled time, which varies slowly; the shapes'
coordinates are octaves. A little outside of the box of the measured shapes the ratio at its edge is
carried on, with more doubt, and said; far outside, or far from all of them, there is no answer.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.kernels.common import Array


class Settings(NamedTuple):
    """How interpolation goes."""

    neighbours: int = 24
    ridge: float = 0.02
    softening: float = 0.05


CHOSEN = {
    "gemm": Settings(12, 0.08, 0.01),
    "attn_decode": Settings(36, 0.08, 0.01),
    "attn_prefill": Settings(36, 0.02, 0.2),
}
"""By class, what `calibration/operators_settings.py` chose on H200, B200, L40S and GB200: the
devices that scores are shown for had no say in it."""
FARTHEST = 3.0
"""Octaves to the nearest measured shape beyond which nothing is said."""
SLACK = 0.01
REACH = 2.0
"""Octaves beyond the box of the measured shapes up to which the ratio at its edge is carried on."""
DRIFT = 0.05
"""Relative uncertainty that every such octave adds."""
LATTICE = 8.0
"""Steps per octave to which coordinates are rounded when very many shapes are asked for."""
MANY = 4096
LARGE = 4096
"""Points beyond which only the nearest shelves are searched."""
NEAREST_SHELVES = 12
_CHUNK_CELLS = 1 << 21


class Interpolated(NamedTuple):
    """Per query: the value, how far its neighbours scatter, and whether it may be believed."""

    value: Array
    scatter: Array
    inside: NDArray[np.bool_]
    beyond: Array
    """Octaves beyond the box of the measured shapes, over all coordinates."""


class Shelves(NamedTuple):
    """Points that differ in their first coordinate only, together: a shortcut into large clouds."""

    places: Array
    """The other coordinates, once each."""
    members: NDArray[np.intp]
    """Positions of the points of each shelf, filled up with the number of points."""


class Cloud(NamedTuple):
    """Measured points: coordinates in octaves, shape (points, dimensions), and their values."""

    points: Array
    values: Array
    shelves: Shelves | None = None
    settings: Settings = Settings()

    def at(self, queries: Array) -> Interpolated:
        """Interpolate at many places; those asked for repeatedly are worked out once."""
        low, high = self.points.min(axis=0) - SLACK, self.points.max(axis=0) + SLACK
        asked = np.clip(queries, low, high)
        beyond = np.abs(queries - asked).sum(axis=1)
        if len(queries) > MANY:
            asked = np.round(asked * LATTICE) / LATTICE
        places, where = np.unique(asked, axis=0, return_inverse=True)
        step = max(1, _CHUNK_CELLS // self._candidates_each())
        parts = [self._chunk(places[start : start + step]) for start in range(0, len(places), step)]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
        back = where.ravel()
        believed = (beyond <= REACH) & (columns[2][back] <= FARTHEST)
        scatter = np.hypot(columns[1][back], DRIFT * beyond)
        return Interpolated(columns[0][back], scatter, believed, beyond)

    def _candidates_each(self) -> int:
        if self.shelves is None:
            return len(self.points)
        shelves = self.shelves
        return max(NEAREST_SHELVES * int(shelves.members.shape[1]), len(shelves.places))

    def _nearest(self, places: Array) -> tuple[NDArray[np.intp], Array]:
        """Per place: its nearest points and their squared distances."""
        count = min(self.settings.neighbours, len(self.points))
        if self.shelves is None:
            squared = _squared_distances(places, self.points)
            near = np.argpartition(squared, count - 1, axis=1)[:, :count]
            return near, np.take_along_axis(squared, near, axis=1)
        across = _squared_distances(places[:, 1:], self.shelves.places)
        shelf = np.argpartition(across, NEAREST_SHELVES - 1, axis=1)[:, :NEAREST_SHELVES]
        candidates = self.shelves.members[shelf].reshape(len(places), -1)
        padded = np.append(self.points[:, 0], np.inf)
        along = (padded[candidates] - places[:, :1]) ** 2
        squared = along + np.repeat(
            np.take_along_axis(across, shelf, axis=1), self.shelves.members.shape[1], axis=1
        )
        near = np.argpartition(squared, count - 1, axis=1)[:, :count]
        return (
            np.take_along_axis(candidates, near, axis=1),
            np.take_along_axis(squared, near, axis=1),
        )

    def _chunk(self, places: Array) -> tuple[Array, Array, Array]:
        near, away = self._nearest(places)
        values = self.values[near]
        offsets = self.points[near] - places[:, None, :]
        level, scatter = _planes(offsets, values, _weights(away, self.settings), self.settings)
        nearest = away.argmin(axis=1)[:, None]
        hit = np.take_along_axis(away, nearest, axis=1)[:, 0] < 1e-12
        level = np.where(hit, np.take_along_axis(values, nearest, axis=1)[:, 0], level)
        return level, scatter, np.sqrt(away.min(axis=1))


def cloud(points: Array, values: Array, settings: Settings | None = None) -> Cloud:
    """A cloud of points; a large one is sorted onto shelves."""
    settings = settings or Settings()
    if len(points) <= LARGE:
        return Cloud(points, values, None, settings)
    places, which = np.unique(points[:, 1:], axis=0, return_inverse=True)
    which = which.ravel()
    sizes = np.bincount(which)
    if len(places) < NEAREST_SHELVES or NEAREST_SHELVES * sizes.max() > len(points) / 2:
        return Cloud(points, values, None, settings)
    order = np.argsort(which, kind="stable")
    members = np.full((len(places), int(sizes.max())), len(points), dtype=np.intp)
    rank = np.arange(len(points)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    members[which[order], rank] = order
    return Cloud(points, values, Shelves(places, members), settings)


def _squared_distances(places: Array, points: Array) -> Array:
    squared = np.zeros((len(places), len(points)))
    for here, there in zip(places.T, points.T, strict=True):
        squared += (here[:, None] - there[None, :]) ** 2
    return squared


def _weights(away: Array, settings: Settings) -> Array:
    reach = away.max(axis=1, keepdims=True) + 1e-9
    weights = (1.0 - 0.999 * away / reach) ** 2 / (away + settings.softening)
    scaled: Array = weights / weights.sum(axis=1, keepdims=True)
    return scaled


def _planes(
    offsets: Array, values: Array, weights: Array, settings: Settings
) -> tuple[Array, Array]:
    """Weighted planes through the neighbours of each place: their height there, their misfit."""
    ones = np.ones((*offsets.shape[:2], 1))
    design = np.concatenate([ones, offsets], axis=2)
    weighted = design * weights[:, :, None]
    normal = np.swapaxes(weighted, 1, 2) @ design
    diagonal = np.arange(1, design.shape[2])
    normal[:, diagonal, diagonal] += settings.ridge
    right = np.swapaxes(weighted, 1, 2) @ values[:, :, None]
    plane = np.linalg.solve(normal, right)
    misfit = values - (design @ plane)[:, :, 0]
    scatter = np.sqrt((weights * misfit**2).sum(axis=1))
    return plane[:, 0, 0], scatter
