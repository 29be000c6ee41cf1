"""Do the intervals hold? Nominal level against measured coverage, with their width."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.intervals import (
    LEAST_GROUPS,
    LEAST_ROWS,
    Residuals,
    needed,
    pool,
    residuals,
    weighted_quantiles,
)
from calibration.problem import METRICS
from calibration.run import Everything
from calibration.scored import OURS_OUT, Scored
from reports.validate.pick import NAMES
from reports.validate.table import Cell, Section, table

Array = NDArray[Any]
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
TEXT = (
    "A row's interval is made without its model: from the held-out residuals of the group's other "
    "models (of all other groups where there are fewer than four), widened by a factor that is "
    "learnt from the other groups only. Rows: the share of rows inside. Models: the same, each "
    "held-out model counting once. Half-width: of the middle interval, as a percentage.",
    "In files the 90 % bands carry the factor learnt from all groups together; "
    "their coverage by group is in [groups](groups.md).",
)


class Curve(NamedTuple):
    """Coverage and width of one metric at every level."""

    metric: str
    rows: int
    models: int
    covered: tuple[float, ...]
    covered_models: tuple[float, ...]
    half_width: tuple[float, ...]


def curves(scored: Sequence[Scored]) -> list[Curve]:
    """One per metric."""
    parts = [dict(zip(METRICS, _residuals(one), strict=True)) for one in scored]
    names = ["/".join(one.key) for one in scored]
    return [_curve(metric, [part[metric] for part in parts], names) for metric in METRICS]


def _residuals(one: Scored) -> list[Residuals]:
    return residuals(one.predicted[OURS_OUT], one.measured, one.models)


def _speaks(own: Residuals) -> bool:
    return len(np.unique(own.groups)) >= LEAST_GROUPS and len(own.values) >= LEAST_ROWS


def _curve(metric: str, parts: list[Residuals], names: list[str]) -> Curve:
    covered, by_model, widths = [], [], []
    for level in LEVELS:
        inside, models, width = _at(level, parts, names)
        covered.append(float(np.mean(inside)))
        by_model.append(_each_once(inside, models))
        widths.append(float(np.expm1(np.median(width))))
    count = len(set(models.tolist()))
    return Curve(metric, len(inside), count, tuple(covered), tuple(by_model), tuple(widths))


def _each_once(inside: Array, models: Array) -> float:
    _, position, counts = np.unique(models, return_inverse=True, return_counts=True)
    return float(np.mean(np.bincount(position, weights=inside) / counts))


def _at(level: float, parts: list[Residuals], names: list[str]) -> tuple[Array, Array, Array]:
    """Per row: inside or not, its model, half the interval's width in ln."""
    grown = [needed(own, level) if _speaks(own) else np.empty(0) for own in parts]
    inside, models, widths = [], [], []
    for index, own in enumerate(parts):
        if not len(own.values):
            continue
        others = [grown[other] for other in range(len(parts)) if other != index]
        factor = float(np.quantile(np.concatenate(others), level))
        if _speaks(own):
            inside.append(grown[index] <= factor)
            low, high = weighted_quantiles(own.values, own.groups, level)
        else:
            rest = [(n, r) for n, r in zip(names, parts, strict=True) if n != names[index]]
            everyone = pool(rest)
            low, high = weighted_quantiles(everyone.values, everyone.groups, level)
            within = (own.values >= low * factor) & (own.values <= high * factor)
            inside.append(within)
        models.append(np.array([f"{names[index]}/{model}" for model in own.groups.tolist()]))
        widths.append(np.full(len(own.values), (high - low) * factor / 2))
    return np.concatenate(inside), np.concatenate(models), np.concatenate(widths)


def reliability(made: Sequence[Curve]) -> Section:
    """The curve as a table."""
    lines: list[list[Cell]] = []
    for curve in made:
        for index, level in enumerate(LEVELS):
            lines.append(
                [
                    NAMES[curve.metric],
                    level,
                    curve.rows,
                    curve.models,
                    curve.covered[index],
                    curve.covered_models[index],
                    curve.half_width[index],
                ]
            )
    columns = (
        "metric",
        "nominal:percent",
        "rows:count",
        "models:count",
        "covered rows:percent",
        "covered models:percent",
        "half-width:percent",
    )
    drawn = (table("reliability", columns, lines),)
    return Section("intervals", "Intervals", TEXT, drawn, ("reliability",))


def bands(found: Everything) -> Section:
    """Bands that rest on a group's own models; the others carry those of all groups together."""
    columns = (
        "system",
        "engine",
        "metric",
        "level:percent",
        "measured/predicted from:number",
        "to:number",
        "held-out models behind it:count",
        "coverage:percent",
    )
    unseen = [band for own in found.bands.values() for band in own if not band.seen]
    shared = {
        metric: max(b.groups for b in unseen if b.metric == metric)
        for metric in {band.metric for band in unseen}
    }
    lines: list[list[Cell]] = [
        [*key, NAMES[band.metric], band.level, band.low, band.high, band.groups, band.coverage]
        for key, own in sorted(found.bands.items())
        for band in own
        if not band.seen and band.groups < shared[band.metric]
    ]
    text = (
        "Measured over predicted, at 90 %, with the coverage that the group's held-out models saw. "
        "Groups with fewer than four models carry the bands of all groups together.",
    )
    made = (table("bands", columns, lines),)
    return Section("bands", "Bands as they are shipped", text, made, page="groups")
