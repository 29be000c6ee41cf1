"""How far predictions go wrong for what nobody measured: a system, a maker, an engine, or both.

It is measured by pretending: each (system, engine) is predicted by relatives that have less and
less in common with it. Bands count every (system, engine) once, however many rows it has, and each
system's coverage is that of the band which the other systems give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.calibrated import Band
from analyzer.engines import engine
from analyzer.kinship import Kin, kin
from analyzer.relatives import Belief, Relative
from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.intervals import LEAST_ROWS, LEVEL, both_sided, residuals
from calibration.parameters import to_rates
from calibration.problem import METRICS, predict

Array = NDArray[np.float64]
Together = Callable[[Relative, Relative], bool]
"""Whether leaving the first out takes the second with it."""


def _system(one: Relative, other: Relative) -> bool:
    return one.system == other.system


def _maker(one: Relative, other: Relative) -> bool:
    return one.device.vendor.lower() == other.device.vendor.lower()


def _engine(one: Relative, other: Relative) -> bool:
    return engine(one.engine).family == engine(other.engine).family


SYSTEM, MAKER, ENGINE, STRANGER = "system", "maker", "engine", "maker and engine"
LEFT_OUT: dict[str, Together] = {
    SYSTEM: _system,
    MAKER: _maker,
    ENGINE: lambda one, other: _engine(one, other) or _system(one, other),
    STRANGER: lambda one, other: _engine(one, other) or _maker(one, other),
}
"""What is unknown of a scenario, and what is left out to pretend so."""
LEAST_SYSTEMS = 8
"""Fewer systems than this cannot say how far another one lies."""


def pretend(
    groups: Mapping[Key, Group], relatives: Mapping[Key, Relative], together: Together
) -> dict[Key, Array]:
    """Each group's rows predicted without what goes together with it."""
    known: dict[tuple[Key, ...], Kin] = {}
    predicted = {}
    for key, group in groups.items():
        left = tuple(o for o, other in relatives.items() if not together(relatives[key], other))
        if left not in known:
            known[left] = kin(relatives[other] for other in left)
        priors = known[left].believe(group.system.device, key[1])
        point = np.array([entry.centre for entry in priors])
        predicted[key] = predict(group.problem, to_rates(priors, point, Rates.default()))
    return predicted


class Unit(NamedTuple):
    """ln(measured/predicted) of one metric of one (system, engine)."""

    system: str
    values: Array


def units(
    groups: Mapping[Key, Group], predicted: Mapping[Key, Array], served: bool
) -> dict[str, list[Unit]]:
    """By metric: the groups of fixed batches, or those of loads."""
    found: dict[str, list[Unit]] = {metric: [] for metric in METRICS}
    for key, group in groups.items():
        if group.served != served:
            continue
        own = residuals(predicted[key], group.problem.observed, group.problem.groups)
        for metric, part in zip(METRICS, own, strict=True):
            if len(part.values):
                found[metric].append(Unit(key[0], part.values))
    return found


def enough(found: Sequence[Unit]) -> bool:
    """Whether so many systems can speak for one more."""
    return len({unit.system for unit in found}) >= LEAST_SYSTEMS


class Coverage(NamedTuple):
    """How often bands held for systems that had no part in them, and how wide they were."""

    rows: float
    units: float
    low_ratio: float
    high_ratio: float
    """Ends of the middle band, as measured/predicted."""


def band(metric: str, found: Sequence[Unit], level: float = LEVEL) -> Band:
    """The band of these units, with the share of units that it covers when it comes from others."""
    low, high = _ends(found, level)
    return Band(
        metric=metric,
        level=level,
        low=float(f"{np.exp(low):.4g}"),
        high=float(f"{np.exp(high):.4g}"),
        groups=len(found),
        coverage=round(coverage(found, level).units, 4),
    )


def coverage(found: Sequence[Unit], level: float = LEVEL) -> Coverage:
    """Each system's rows inside the band that the other systems give."""
    inside, ends = [], []
    for unit in found:
        low, high = _ends([other for other in found if other.system != unit.system], level)
        inside.append((unit.values >= low) & (unit.values <= high))
        ends.append((low, high))
    middle = np.median(ends, axis=0)
    return Coverage(
        float(np.mean(np.concatenate(inside))),
        float(np.average([part.mean() for part in inside], weights=_says(found))),
        float(np.exp(middle[0])),
        float(np.exp(middle[1])),
    )


def _ends(found: Sequence[Unit], level: float) -> tuple[float, float]:
    """Ends of the band, each widened until it holds for each system when the others alone give it,
    by units and by rows alike."""
    ends = _plain(found, level)
    names = sorted({unit.system for unit in found})
    if len(names) < 3:
        return ends
    needed: list[list[Array]] = [[], []]
    mine: list[Unit] = []
    for name in names:
        given = _plain([unit for unit in found if unit.system != name], level)
        for unit in found:
            if unit.system == name:
                mine.append(unit)
                for side, end in enumerate(given):
                    needed[side].append(unit.values / end)
    each = np.concatenate(_each(mine))
    once = np.ones(len(each))
    tail = (1.0 + level) / 2.0
    grown = [
        max(1.0, *(_quantile(np.concatenate(side), by, tail) for by in (each, once)))
        for side in needed
    ]
    return ends[0] * grown[0], ends[1] * grown[1]


def pooled_error(found: Sequence[Unit]) -> float:
    """exp(mean |ln ratio|) − 1, every unit counting as much as it says."""
    each = [float(np.abs(unit.values).mean()) for unit in found]
    return float(np.expm1(np.average(each, weights=_says(found))))


def _says(found: Sequence[Unit]) -> list[float]:
    """What a unit weighs: a few rows are no whole unit."""
    return [min(1.0, len(unit.values) / LEAST_ROWS) for unit in found]


def _each(found: Sequence[Unit]) -> list[Array]:
    """Weight of every row."""
    return [
        np.full(len(unit.values), says / len(unit.values))
        for unit, says in zip(found, _says(found), strict=True)
    ]


def _plain(found: Sequence[Unit], level: float) -> tuple[float, float]:
    """Quantiles of the units' rows, no side narrower than a quarter of the other."""
    values, weights = np.concatenate([unit.values for unit in found]), np.concatenate(_each(found))
    tail = (1.0 - level) / 2.0
    low, high = (_quantile(values, weights, at) for at in (tail, 1.0 - tail))
    return both_sided(low, high)


def _quantile(values: Array, weights: Array, level: float) -> float:
    order = np.argsort(values)
    ranks = (np.cumsum(weights[order]) - weights[order] / 2) / weights.sum()
    return float(np.interp(level, ranks, values[order]))


def relatives_of(
    groups: Mapping[Key, Group], beliefs: Mapping[Key, Mapping[str, Belief]]
) -> dict[Key, Relative]:
    """What every group learnt, with its device."""
    return {
        key: Relative(key[0], group.system.device, key[1], beliefs[key])
        for key, group in groups.items()
    }


def pretended(
    groups: Mapping[Key, Group], relatives: Mapping[Key, Relative], kinds: Iterable[str] = LEFT_OUT
) -> dict[str, dict[Key, Array]]:
    """By what is left out, and by group."""
    return {name: pretend(groups, relatives, LEFT_OUT[name]) for name in kinds}
