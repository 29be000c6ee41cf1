"""The machine's pace while records were taken, by the gauge that every visit times.

Nothing is fitted to it. It tells how much faster or slower the machine was while a calibration was
checked than while it was measured, which no prediction can know.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from analyzer.records import Record
from calibration.visits import typical

Array = NDArray[np.float64]

PIECES = {
    "gauge_product": "a large product",
    "gauge_stream": "a stream",
    "gauge_step": "an imitated step",
}
LIKE_A_STEP = "gauge_step"
"""The piece that is most like what generations do."""


def pace_of(records: Iterable[Record]) -> dict[str, float]:
    """Seconds of each piece, by the statistic that stands for a case; empty where none was taken.

    Disturbed visits count too: what disturbed them disturbed their neighbours.
    """
    taken: dict[str, list[float]] = defaultdict(list)
    for record in records:
        piece, seconds = str(record.case.get("op", "")), record.metrics.get("latency_s")
        if record.kind == "operator" and piece in PIECES and seconds:
            taken[piece].append(seconds)
    return {piece: typical(taken[piece]) for piece in PIECES if piece in taken}


def slower(then: Mapping[str, float], now: Mapping[str, float]) -> dict[str, float]:
    """How much longer each piece took now than then, as a ratio less 1."""
    both = [piece for piece in PIECES if piece in then and piece in now]
    return {piece: now[piece] / then[piece] - 1.0 for piece in both}


def said(drift: Mapping[str, float]) -> str:
    """The drift in words; '' where nothing was gauged."""
    return ", ".join(f"{PIECES[piece]} {share:+.1%}" for piece, share in drift.items())


def slowed(ratios: Array, drift: Mapping[str, float]) -> Array:
    """ln(predicted/measured) as if predictions had known the pace of a step."""
    return ratios + float(np.log1p(drift.get(LIKE_A_STEP, 0.0)))
