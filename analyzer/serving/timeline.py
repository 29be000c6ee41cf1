"""How the system looked over time, in a fixed number of bins that double in width as needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FIELDS = ("busy", "running", "waiting", "kv_blocks")


class Timeline:
    """Time-weighted sums over all replicas; a bin's mean is its sum over its width."""

    def __init__(self, bins: int) -> None:
        self._bins = bins
        self.width_s = 1e-3
        self._sums: NDArray[np.float64] = np.zeros((bins, len(FIELDS)))
        self.end_s = 0.0

    def add(self, start_s: float, end_s: float, values: tuple[float, ...]) -> None:
        """Add values (in the order of FIELDS) that held from `start_s` to `end_s`."""
        while end_s > self.width_s * self._bins:
            self._double()
        self.end_s = max(self.end_s, end_s)
        first = int(start_s / self.width_s)
        last = min(int(end_s / self.width_s), self._bins - 1)
        row = np.asarray(values)
        if first >= last:
            self._sums[last] += row * (end_s - start_s)
            return
        self._sums[first] += row * ((first + 1) * self.width_s - start_s)
        self._sums[first + 1 : last] += row * self.width_s
        self._sums[last] += row * (end_s - last * self.width_s)

    def columns(self) -> dict[str, list[float]]:
        """Start of each bin (s) and the mean of each field in it."""
        used = min(int(np.ceil(self.end_s / self.width_s)), self._bins)
        starts = np.arange(used) * self.width_s
        widths = np.minimum(self.end_s - starts, self.width_s)
        means = self._sums[:used] / widths[:, None]
        return {
            "start_s": starts.tolist(),
            **{name: means[:, place].tolist() for place, name in enumerate(FIELDS)},
        }

    def _double(self) -> None:
        half = -(-self._bins // 2)
        padded = np.zeros((2 * half, len(FIELDS)))
        padded[: self._bins] = self._sums
        self._sums = np.zeros_like(self._sums)
        self._sums[:half] = padded[0::2] + padded[1::2]
        self.width_s *= 2
