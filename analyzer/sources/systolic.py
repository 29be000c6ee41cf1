"""Cycles of a matrix multiplication on a systolic array, in closed form.

The array works through folds; each fold loads its stationary operand, streams the others through
and drains. These are exactly the compute cycles of the `scalesim` package (3.0.0), which gets them
by writing out every cycle's operands; here they cost nothing, so that real models' sizes can be
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from analyzer.systolic_array import SystolicArray
from analyzer.timing.kernels.common import Array


def _weights_stay(m: Array, n: Array, k: Array, array: SystolicArray) -> tuple[Array, Array]:
    folds = np.ceil(k / array.rows) * np.ceil(n / array.columns)
    return folds, 2.0 * array.rows + array.columns + m - 2.0


def _outputs_stay(m: Array, n: Array, k: Array, array: SystolicArray) -> tuple[Array, Array]:
    folds = np.ceil(m / array.rows) * np.ceil(n / array.columns)
    return folds, array.rows + array.columns + k - 2.0


def _inputs_stay(m: Array, n: Array, k: Array, array: SystolicArray) -> tuple[Array, Array]:
    folds = np.ceil(k / array.rows) * np.ceil(m / array.columns)
    return folds, 2.0 * array.rows + array.columns + n - 2.0


FOLDS: dict[str, Callable[[Array, Array, Array, SystolicArray], tuple[Array, Array]]] = {
    "ws": _weights_stay,
    "os": _outputs_stay,
    "is": _inputs_stay,
}


def cycles(m: Any, n: Any, k: Any, array: SystolicArray) -> Array:
    """Compute cycles of m×k times k×n on one of the arrays, stalls for memory not included."""
    rows, columns, depth = (np.asarray(value, dtype=float) for value in (m, n, k))
    folds, each = FOLDS[array.dataflow](rows, columns, depth, array)
    total: Array = folds * each - 1.0
    return total
