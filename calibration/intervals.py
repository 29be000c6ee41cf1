"""Prediction intervals from held-out residuals, and how often they really hold.

A model that no fit saw errs more than a new row of a known one, so the residuals are those of
leave-one-model-out and every model counts alike, however many rows it has. Each model's band is
made from the other models' residuals only, and the share of its rows inside is the coverage that is
printed beside the level. One factor, common to all groups, widens the bands until the pooled
coverage meets the level; with few models of its own, a group borrows the residuals of all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.calibrated import Band
from calibration.problem import METRICS

Array = NDArray[np.float64]

LEVEL = 0.9
LEAST_GROUPS = 4
"""Fewer held-out models than this cannot speak for themselves."""
LEAST_ROWS = 8
TINY = 1e-3
"""Half-width of a band (in ln) below which measurements themselves do not repeat."""
ONE_SIDED = 0.25
"""Least width of one side relative to the other: few models that all err to one side do not prove
that the next one cannot err to the other."""


class Residuals(NamedTuple):
    """ln(measured/predicted) of held-out rows of one metric of one (system, engine)."""

    values: Array
    groups: NDArray[np.str_]


def residuals(predicted: Array, observed: Array, groups: NDArray[np.str_]) -> list[Residuals]:
    """One entry per metric, in the order of METRICS."""
    found = []
    for index in range(len(METRICS)):
        both = np.isfinite(predicted[:, index]) & np.isfinite(observed[:, index])
        ratio = np.log(observed[both, index] / predicted[both, index])
        found.append(Residuals(ratio, groups[both]))
    return found


def weighted_quantiles(
    values: Array, groups: NDArray[np.str_], level: float
) -> tuple[float, float]:
    """Lower and upper end of the central `level`, every group with the same weight."""
    _, position, counts = np.unique(groups, return_inverse=True, return_counts=True)
    weights = 1.0 / counts[position]
    order = np.argsort(values)
    ranks = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    tail = (1.0 - level) / 2.0
    low, high = np.interp([tail, 1.0 - tail], ranks, values[order])
    return float(low), float(high)


def needed(own: Residuals, level: float = LEVEL) -> Array:
    """Per row, the factor by which the other groups' band would have to grow to reach it."""
    factors = np.empty(len(own.values))
    for name in np.unique(own.groups):
        mine = own.groups == name
        low, high = _band(own.values[~mine], own.groups[~mine], level)
        misses = own.values[mine]
        factors[mine] = np.where(misses < 0, misses / low, misses / high)
    return factors


def _band(values: Array, groups: NDArray[np.str_], level: float) -> tuple[float, float]:
    return both_sided(*weighted_quantiles(values, groups, level))


def both_sided(low: float, high: float) -> tuple[float, float]:
    """The same with neither side all too narrow beside the other."""
    floor = max(TINY, ONE_SIDED * max(-low, high))
    return min(low, -floor), max(high, floor)


def widening(all_residuals: Sequence[Residuals], level: float = LEVEL) -> float:
    """The factor on bands (in ln) with which the pooled coverage meets the level."""
    able = [needed(own, level) for own in all_residuals if _speaks(own)]
    return float(np.quantile(np.concatenate(able), level)) if able else 1.0


def _speaks(own: Residuals) -> bool:
    return len(np.unique(own.groups)) >= LEAST_GROUPS and len(own.values) >= LEAST_ROWS


def bands(
    own: Sequence[Residuals], pooled: Mapping[str, Residuals], factors: Mapping[str, float]
) -> tuple[Band, ...]:
    """Bands of one (system, engine): its own where it can speak, else of all together."""
    made = []
    for metric, mine in zip(METRICS, own, strict=True):
        everyone = pooled.get(metric)
        source = mine if _speaks(mine) else everyone
        if source is None or not len(source.values):
            continue
        factor = factors[metric]
        made.append(_widened(metric, source, factor))
    return tuple(made)


def _widened(metric: str, source: Residuals, factor: float, seen: bool = False) -> Band:
    """The band of these residuals, `factor` times as wide, with the share of groups it covers."""
    low, high = _band(source.values, source.groups, LEVEL)
    return Band(
        metric=metric,
        level=LEVEL,
        low=float(f"{np.exp(low * factor):.4g}"),
        high=float(f"{np.exp(high * factor):.4g}"),
        groups=len(np.unique(source.groups)),
        coverage=round(float(np.mean(needed(source) <= factor)), 4),
        seen=seen,
    )


def seen_bands(
    own: Sequence[Residuals], cells: Sequence[NDArray[np.str_]], optimism: float
) -> tuple[Band, ...]:
    """Bands for models and ranges that a fit has seen, from what it leaves of its own rows.

    A cell is a model under one layout and batch: its rows, which differ in lengths, count together
    as one. `optimism` widens for the rates that were fitted to the very rows.
    """
    made = []
    for metric, mine, names in zip(METRICS, own, cells, strict=True):
        grouped = Residuals(mine.values, names)
        if not _speaks(grouped):
            continue
        factor = max(widening([grouped]), 1.0) * optimism
        made.append(_widened(metric, grouped, factor, seen=True))
    return tuple(made)


def pool(parts: Sequence[tuple[str, Residuals]]) -> Residuals:
    """Residuals of several (system, engine)s; a model on another system is another group."""
    usable = [(name, r) for name, r in parts if len(r.values)]
    if not usable:
        return Residuals(np.empty(0), np.empty(0, dtype=str))
    values = np.concatenate([r.values for _, r in usable])
    groups = np.concatenate(
        [np.array([f"{name}/{group}" for group in r.groups.tolist()]) for name, r in usable]
    )
    return Residuals(values, groups)
