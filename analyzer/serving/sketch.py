"""Distributions in fixed memory: a histogram whose bins grow by a constant factor."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_LEAST_S = 1e-7
_GROWTH = math.log1p(0.002)
_BINS = 14_000  # reaches 1e-7 s · 1.002^14000 = 1.4e5 s


class Sketch:
    """Counts of positive values; any quantile to 0.1 %. Smaller values count as 1e-7."""

    def __init__(self) -> None:
        self._counts: NDArray[np.int64] = np.zeros(_BINS, dtype=np.int64)
        self.count = 0
        self.total = 0.0
        self.largest = 0.0

    def add(self, value: float, weight: int = 1) -> None:
        """Count one value `weight` times."""
        place = int(math.log(value / _LEAST_S) / _GROWTH) if value > _LEAST_S else 0
        self._counts[min(place, _BINS - 1)] += weight
        self.count += weight
        self.total += value * weight
        self.largest = max(self.largest, value)

    def add_many(self, values: NDArray[np.float64], weight: int) -> None:
        """Count each of the values `weight` times."""
        places = (np.log(np.maximum(values, _LEAST_S) / _LEAST_S) / _GROWTH).astype(np.int64)
        np.add.at(self._counts, np.minimum(places, _BINS - 1), weight)
        self.count += weight * len(values)
        self.total += float(values.sum()) * weight
        self.largest = max(self.largest, float(values.max()))

    def quantile(self, share: float) -> float:
        """The value that `share` of all counts do not exceed."""
        rank = max(math.ceil(share * self.count), 1)
        place = int(np.searchsorted(np.cumsum(self._counts), rank))
        return min(_LEAST_S * math.exp((place + 0.5) * _GROWTH), self.largest)
