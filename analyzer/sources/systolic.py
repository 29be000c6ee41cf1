"""Cycles of a matrix multiplication on a systolic array, in closed form.

The array works through folds; each fold loads its stationary operand, streams the others through
and drains. These are exactly the compute cycles of the `scalesim` package (3.0.0), which gets them
by writing out every cycle's operands; here they cost nothing, so that real models' sizes can be
asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np

from analyzer.errors import ConfigError, nearest
from analyzer.timing.kernels.common import Array


class SystolicArray(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A machine made of systolic arrays."""

    rows: int
    columns: int
    dataflow: str = "ws"
    """What stays in place: "ws" weights, "os" outputs, "is" inputs."""
    arrays: int = 1
    """Arrays that share a multiplication's columns."""
    clock_Hz: float
    input_sram_kB: int = 4096
    weight_sram_kB: int = 4096
    output_sram_kB: int = 2048

    def __post_init__(self) -> None:
        if self.dataflow not in DATAFLOWS:
            hint = nearest(self.dataflow, DATAFLOWS)
            raise ConfigError(f"systolic array: unknown dataflow {self.dataflow!r}{hint}")
        for name in ("rows", "columns", "arrays", "clock_Hz"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"systolic array: {name} must be above 0")

    @property
    def peak_Fps(self) -> float:
        """FLOP/s with every cell busy."""
        return 2.0 * self.rows * self.columns * self.arrays * self.clock_Hz


def _weights_stay(m: Array, n: Array, k: Array, array: SystolicArray) -> tuple[Array, Array]:
    folds = np.ceil(k / array.rows) * np.ceil(n / array.columns)
    return folds, 2.0 * array.rows + array.columns + m - 2.0


def _outputs_stay(m: Array, n: Array, k: Array, array: SystolicArray) -> tuple[Array, Array]:
    folds = np.ceil(m / array.rows) * np.ceil(n / array.columns)
    return folds, array.rows + array.columns + k - 2.0


def _inputs_stay(m: Array, n: Array, k: Array, array: SystolicArray) -> tuple[Array, Array]:
    folds = np.ceil(k / array.rows) * np.ceil(m / array.columns)
    return folds, 2.0 * array.rows + array.columns + n - 2.0


DATAFLOWS: dict[str, Callable[[Array, Array, Array, SystolicArray], tuple[Array, Array]]] = {
    "ws": _weights_stay,
    "os": _outputs_stay,
    "is": _inputs_stay,
}


def cycles(m: Any, n: Any, k: Any, array: SystolicArray) -> Array:
    """Compute cycles of m×k times k×n on one of the arrays, stalls for memory not included."""
    rows, columns, depth = (np.asarray(value, dtype=float) for value in (m, n, k))
    folds, each = DATAFLOWS[array.dataflow](rows, columns, depth, array)
    total: Array = folds * each - 1.0
    return total
