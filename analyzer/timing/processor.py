"""How processors stream weights: by the number of rows, and by how the weights lie in memory."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Rates

Array = NDArray[np.float64]

FEW_ROWS = 4.0
"""Rows from which processors' fp32 kernels stream the weights once for all of them."""


def streamed_by_processor(efficiency: Array, columns: dict[str, Array], rates: Rates) -> Array:
    """Efficiency of streaming weights on a processor, from that of one row of plain weights."""
    wide, rows = columns["weight_bits"] >= 24.0, columns["m"]
    efficiency = capped(efficiency, rates.rows_wide, wide & (rows > 1.0))
    if rates.rows_few:
        few = wide & (rows > 1.0) & (rows < FEW_ROWS)
        again = efficiency / min(rates.rows_wide, 1.0) * rows**-rates.rows_few
        efficiency = np.where(few, np.minimum(efficiency, again), efficiency)
    turned = columns["input_major"] > 0.0
    efficiency = capped(efficiency, rates.turned_wide, turned & wide)
    return capped(efficiency, rates.turned_eff, turned & ~wide)


def capped(efficiency: Array, ratio: Any, where: NDArray[np.bool_]) -> Array:
    """Efficiencies times a ratio where it applies, never beyond the peak."""
    if ratio == 1.0:
        return efficiency
    return np.where(where, np.minimum(efficiency * ratio, 1.0), efficiency)
