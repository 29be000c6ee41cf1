"""Robust summaries of repeated timings: median and its interval, spread, outliers, comparison."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

CONFIDENCE = 0.95
NORMAL_95 = 1.959964
EXACT_LIMIT = 500
"""Samples up to which the interval's ranks come from the binomial itself."""


class Summary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a set of samples says, in seconds. Outliers are counted, never dropped."""

    count: int
    median_s: float
    ci_low_s: float
    ci_high_s: float
    """Interval of the median from order statistics; free of any assumed distribution."""
    ci_coverage: float
    """Coverage of that interval: at least 0.95, less where there are too few samples."""
    mean_s: float
    stdev_s: float
    """Unbiased (n - 1); 0 for one sample."""
    mad_s: float
    p10_s: float
    p90_s: float
    min_s: float
    max_s: float
    outliers_mild: int
    outliers_severe: int

    @property
    def half_width(self) -> float:
        """Half the interval of the median as a fraction of the median."""
        return (self.ci_high_s - self.ci_low_s) / 2 / self.median_s if self.median_s else math.inf


def quantile(ordered: Sequence[float], share: float) -> float:
    """Linearly interpolated quantile of values that are already in order."""
    position = share * (len(ordered) - 1)
    low = math.floor(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def median(values: Sequence[float]) -> float:
    """The middle value, in the unit of the values."""
    return quantile(sorted(values), 0.5)


def mad(values: Sequence[float]) -> float:
    """Median absolute deviation from the median."""
    centre = median(values)
    return median([abs(value - centre) for value in values])


def stdev(values: Sequence[float]) -> float:
    """Unbiased standard deviation; 0 for fewer than two values."""
    if len(values) < 2:
        return 0.0
    mean = math.fsum(values) / len(values)
    return math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def median_ranks(count: int) -> tuple[int, int, float]:
    """0-based ranks that enclose the median and their coverage, as narrow as 95 % allows."""
    if count > EXACT_LIMIT:
        rank = math.floor((count - NORMAL_95 * math.sqrt(count)) / 2)
        return rank - 1, count - rank, CONFIDENCE
    below = chance = 0.5**count
    rank = 1
    while rank + 1 <= count // 2:
        chance *= (count - rank + 1) / rank
        if 1 - 2 * (below + chance) < CONFIDENCE:
            break
        below += chance
        rank += 1
    return rank - 1, count - rank, 1 - 2 * below


def count_outliers(ordered: Sequence[float]) -> tuple[int, int]:
    """Values outside 1.5 and outside 3 interquartile ranges: (mild only, severe)."""
    first, third = quantile(ordered, 0.25), quantile(ordered, 0.75)
    spread = third - first

    def outside(fences: float) -> int:
        low, high = first - fences * spread, third + fences * spread
        return sum(1 for value in ordered if value < low or value > high)

    severe = outside(3.0)
    return outside(1.5) - severe, severe


def summarise(samples: Sequence[float]) -> Summary:
    """Summary of at least one sample, in seconds."""
    if not samples:
        raise ValueError("no samples to summarise")
    ordered = sorted(samples)
    low, high, coverage = median_ranks(len(ordered))
    mild, severe = count_outliers(ordered)
    return Summary(
        count=len(ordered),
        median_s=quantile(ordered, 0.5),
        ci_low_s=ordered[low],
        ci_high_s=ordered[high],
        ci_coverage=coverage,
        mean_s=math.fsum(ordered) / len(ordered),
        stdev_s=stdev(ordered),
        mad_s=mad(ordered),
        p10_s=quantile(ordered, 0.10),
        p90_s=quantile(ordered, 0.90),
        min_s=ordered[0],
        max_s=ordered[-1],
        outliers_mild=mild,
        outliers_severe=severe,
    )


Verdict = Literal["same", "faster", "slower", "ambiguous"]


def compare(before: Summary, after: Summary, tolerance: float = 0.02) -> Verdict:
    """How `after` stands to `before`; `ambiguous` where the samples cannot tell.

    Same: both ends of both intervals lie within `tolerance` of each other. Faster or slower: the
    intervals of the medians are disjoint. Anything else is not decided by these samples.
    """
    low = after.ci_low_s / before.ci_high_s
    high = after.ci_high_s / before.ci_low_s
    if 1 - tolerance <= low and high <= 1 + tolerance:
        return "same"
    if high < 1:
        return "faster"
    return "slower" if low > 1 else "ambiguous"
