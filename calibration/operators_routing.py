"""Rows of expert layers whose routing is what their label says.

A fit believes that so many tokens met so many experts. Two kinds of rows do not bear that out and
are refused, and counted: one rank's share of experts that are spread over ranks, because
benchmarks differ in what that rank receives; and all rows of a model of which one row is faster
than memory allows, because then fewer experts were touched than was said (routers that first choose
groups of experts do so when they are fed with dealt-out tokens).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.sources.operator_rows import OperatorRows
from analyzer.sources.operator_work import shape_rows
from analyzer.sources.physics import BYTES_MARGIN, CACHE_MULTIPLE
from analyzer.timing.kernels.common import Chip

SPREAD = "one rank's share of the experts: what it received is not said"
NOT_AS_SAID = "a model that touched fewer experts than its routing says"


def labelled_rows(rows: OperatorRows, chip: Chip) -> tuple[OperatorRows, dict[str, int]]:
    """The rows of one class to believe, and how many not, by reason; all of any other operator."""
    op, dtype = str(rows.text["op"][0]), str(rows.text["dtype"][0])
    if op != "moe":
        return rows, {}
    spread = rows.number("ep", 1.0) > 1.0
    accused = _accused(rows, shape_rows(rows, op, dtype, chip).moved_B, chip, spread) & ~spread
    counted = {SPREAD: np.count_nonzero(spread), NOT_AS_SAID: np.count_nonzero(accused)}
    refused = {reason: int(count) for reason, count in counted.items() if count}
    return rows.take(~(spread | accused)), refused


def _accused(
    rows: OperatorRows, moved_B: NDArray[np.float64], chip: Chip, spread: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Rows of a model that was once faster than memory with the experts that it should touch."""
    streamed = moved_B > CACHE_MULTIPLE * np.asarray(chip.l2_B)
    too_fast = moved_B / rows.seconds > BYTES_MARGIN * np.asarray(chip.memory_Bps)
    columns = [rows.number(name) for name in ("experts", "topk", "hidden", "inter")]
    _, model = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    model = model.ravel()
    return np.asarray(np.isin(model, model[streamed & too_fast & ~spread]))
