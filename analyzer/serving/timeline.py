"""How the system looked over time, in a fixed number of bins that double in width as needed."""

from __future__ import annotations

import math

FIELDS = ("busy", "running", "waiting", "kv_blocks")
Values = tuple[float, float, float, float]


class Timeline:
    """Time-weighted sums over all replicas; a bin's mean is its sum over its width."""

    def __init__(self, bins: int) -> None:
        self._bins = bins
        self.width_s = 1e-3
        self.end_s = 0.0
        # Plain lists: a step touches one bin, and numpy would cost more than the sums.
        self._sums = [[0.0] * len(FIELDS) for _ in range(bins)]

    def add(self, start_s: float, end_s: float, values: Values) -> None:
        """Add values (in the order of FIELDS) that held from `start_s` to `end_s`."""
        while end_s > self.width_s * self._bins:
            self._double()
        self.end_s = max(self.end_s, end_s)
        first = int(start_s / self.width_s)
        last = min(int(end_s / self.width_s), self._bins - 1)
        if first >= last:
            self._put(last, end_s - start_s, values)
            return
        self._put(first, (first + 1) * self.width_s - start_s, values)
        for place in range(first + 1, last):
            self._put(place, self.width_s, values)
        self._put(last, end_s - last * self.width_s, values)

    def columns(self) -> dict[str, list[float]]:
        """Start of each bin (s) and the mean of each field in it."""
        used = min(math.ceil(self.end_s / self.width_s), self._bins)
        starts = [place * self.width_s for place in range(used)]
        widths = [min(self.end_s - start, self.width_s) for start in starts]
        return {
            "start_s": starts,
            **{
                name: [row[field] / width for row, width in zip(self._sums, widths, strict=False)]
                for field, name in enumerate(FIELDS)
            },
        }

    def _put(self, place: int, seconds: float, values: Values) -> None:
        row = self._sums[place]
        row[0] += seconds * values[0]
        row[1] += seconds * values[1]
        row[2] += seconds * values[2]
        row[3] += seconds * values[3]

    def _double(self) -> None:
        none = [0.0] * len(FIELDS)
        pairs = [*self._sums, none] if self._bins % 2 else self._sums
        merged = [
            [a + b for a, b in zip(left, right, strict=True)]
            for left, right in zip(pairs[0::2], pairs[1::2], strict=True)
        ]
        self._sums = merged + [list(none) for _ in range(self._bins - len(merged))]
        self.width_s *= 2
