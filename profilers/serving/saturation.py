"""Whether a run asked for more than the server could do.

Above saturation the queue grows for as long as requests come, so latencies say more about the
length of the run than about the server. Two signs must agree: fewer requests end than come, and the
number in flight rises with time beyond chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np

from profilers.serving.outcome import Outcome

WINDOWS = 8
LEAST_REQUESTS = 24
SKIPPED_SHARE = 0.2
"""Of the arrivals' time, left out at the beginning while the system fills."""
DEFICIT = 0.05
T_95 = 1.943
"""Student's t, one-sided 95 %, 6 degrees of freedom (8 windows, 2 fitted)."""


class Saturation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates within the window in which requests came, after the filling."""

    saturated: bool
    arrived_per_s: float
    completed_per_s: float
    growth_per_s: float
    """Slope of the number in flight."""
    growth_low_per_s: float
    """Its one-sided 95 % lower bound."""


def judge(outcomes: Sequence[Outcome]) -> Saturation | None:
    """The verdict; None if there are too few requests to say."""
    spans = [(o.scheduled_s, o.end_s) for o in outcomes]
    return judge_spans(spans)


def judge_spans(spans: Sequence[tuple[float, float]]) -> Saturation | None:
    """The same for (arrival, end) of each request, in seconds; serves simulated runs too."""
    if len(spans) < LEAST_REQUESTS:
        return None
    starts = np.sort(np.asarray([start for start, _ in spans]))
    ends = np.sort(np.asarray([end for _, end in spans]))
    first = starts[0] + SKIPPED_SHARE * (starts[-1] - starts[0])
    span = float(starts[-1] - first)
    if span <= 0:
        return None
    arrived = _between(starts, first, starts[-1]) / span
    completed = _between(ends, first, starts[-1]) / span
    edges = np.linspace(first, starts[-1], WINDOWS + 1)
    levels = [_mean_open(starts, ends, a, b) for a, b in pairwise(edges)]
    slope, low = _slope((edges[:-1] + edges[1:]) / 2, np.asarray(levels))
    return Saturation(
        saturated=bool(low > 0 and completed < (1 - DEFICIT) * arrived),
        arrived_per_s=arrived,
        completed_per_s=completed,
        growth_per_s=slope,
        growth_low_per_s=low,
    )


def _between(times: np.ndarray, after: float, until: float) -> float:
    return float(np.searchsorted(times, until, "right") - np.searchsorted(times, after, "right"))


def _mean_open(starts: np.ndarray, ends: np.ndarray, a: float, b: float) -> float:
    """Mean number in flight between `a` and `b`."""
    came = np.clip(b - starts, 0.0, b - a).sum()
    went = np.clip(b - ends, 0.0, b - a).sum()
    return float((came - went) / (b - a))


def _slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Least-squares slope and its lower bound."""
    spread = x - x.mean()
    square = float((spread**2).sum())
    slope = float((spread * y).sum()) / square
    left = y - y.mean() - slope * spread
    error = float(np.sqrt((left**2).sum() / (len(x) - 2) / square))
    return slope, slope - T_95 * error
