"""Plans that no other plan beats in both of two figures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def front(first: Array, second: Array, among: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows that are best in `first` for their `second`, by falling `first`; both grow better.

    Of rows that are equal in both figures the earliest counts.
    """
    rows = np.flatnonzero(among & np.isfinite(first) & np.isfinite(second))
    order = rows[np.lexsort((rows, -second[rows], -first[rows]))]
    best = np.maximum.accumulate(second[order])
    before = np.concatenate(([-np.inf], best[:-1]))
    chosen: NDArray[np.int64] = order[second[order] > before]
    return chosen
