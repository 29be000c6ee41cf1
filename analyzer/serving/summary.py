"""From request times to what is reported: percentiles that the numbers allow, goodput, rates.

The profiler and the simulator both report through this module, so that a measured and a simulated
run are compared under the same definitions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from analyzer.serving.sketch import Sketch
from analyzer.workload import SLO

SHARES = (0.5, 0.9, 0.95, 0.99, 0.999)
CONFIDENCE = 0.99


class Distribution(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One metric over requests, in seconds."""

    count: int
    mean: float
    least: float | None
    largest: float
    percentiles: dict[str, float]
    """'p50', 'p99' …: only those for which there are enough requests."""
    too_few_for: tuple[str, ...] = ()
    """Percentiles left out, because there were too few requests."""


def needed(share: float) -> int:
    """Requests without which a percentile says nothing: p99 459, p95 90, p90 44, p50 7.

    So many are needed to be 99 % sure that at least one lies beyond the percentile.
    """
    return math.ceil(math.log(1.0 - CONFIDENCE) / math.log(share))


def name_of(share: float) -> str:
    """'p50', 'p99.9'."""
    return f"p{100 * share:g}"


def distribution(values: Iterable[float]) -> Distribution | None:
    """Exact summary of values; None if there are none."""
    array = np.sort(np.fromiter(values, dtype=np.float64))
    if array.size == 0:
        return None
    allowed = [share for share in SHARES if array.size >= needed(share)]
    # Nearest rank: a value that some request really had.
    ranks = {share: max(math.ceil(share * array.size), 1) - 1 for share in allowed}
    return Distribution(
        count=int(array.size),
        mean=float(array.mean()),
        least=float(array[0]),
        largest=float(array[-1]),
        percentiles={name_of(share): float(array[rank]) for share, rank in ranks.items()},
        too_few_for=tuple(name_of(share) for share in SHARES if share not in ranks),
    )


def sketched(sketch: Sketch) -> Distribution | None:
    """Summary of a sketch: percentiles to 0.1 %, mean and largest exact."""
    if sketch.count == 0:
        return None
    allowed = [share for share in SHARES if sketch.count >= needed(share)]
    return Distribution(
        count=sketch.count,
        mean=sketch.total / sketch.count,
        least=None,
        largest=sketch.largest,
        percentiles={name_of(share): sketch.quantile(share) for share in allowed},
        too_few_for=tuple(name_of(share) for share in SHARES if share not in allowed),
    )


def meets(slo: SLO, ttft_s: float, tpot_s: float | None, e2e_s: float) -> bool:
    """Whether a request kept every promise; one-token answers have no TPOT to break."""
    return (
        (slo.ttft_s is None or ttft_s <= slo.ttft_s)
        and (slo.tpot_s is None or tpot_s is None or tpot_s <= slo.tpot_s)
        and (slo.e2e_s is None or e2e_s <= slo.e2e_s)
    )


def median(values: Sequence[float]) -> float:
    """Plain median; ValueError without values."""
    if not values:
        raise ValueError("no values")
    return float(np.median(np.asarray(values)))
