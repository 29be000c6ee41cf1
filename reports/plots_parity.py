"""Predicted against measured, and their ratio against length and batch; all models held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from calibration.holdout import batch, length
from calibration.problem import METRICS
from calibration.scored import OURS_OUT, Scored
from reports.plots import FAINT, PALETTE, bands, drawing, limits, plain_ticks, svg, thinned
from reports.validate.pick import LEAST_MODELS, NAMES, models_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]
MOST_POINTS = 500
PANELS = 12
PANEL_POINTS = 40
MODEL_COLOURS = [
    "#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096",
    "#d69e2e", "#319795", "#e53e3e", "#4c51bf", "#744210", "#38b2ac",
    "#ed64a6", "#9ae6b4", "#a0aec0", "#f6ad55", "#90cdf4", "#22543d",
]  # fmt: skip


def parity(scored: Sequence[Scored]) -> str:
    """All groups together, one panel per metric, fixed batches and serving apart."""
    with drawing() as plt:
        figure, panels = plt.subplots(1, 3, figsize=(11.5, 4.1), layout="constrained")
        for metric, axes in zip(METRICS, panels, strict=True):
            predicted, measured, looped = _points(scored, metric)
            low, high = limits(np.concatenate([predicted, measured]))
            bands(axes, low, high)
            for name, chosen, colour in (
                ("fixed batch", ~looped, PALETTE[0]),
                ("served", looped, PALETTE[1]),
            ):
                if chosen.any():
                    axes.plot(
                        measured[chosen],
                        predicted[chosen],
                        ".",
                        ms=4.5,
                        alpha=0.5,
                        color=colour,
                        label=name,
                        mew=0,
                    )
            axes.set_title(NAMES[metric])
            axes.set_xlabel("measured, s")
            axes.set_ylabel("predicted, model held out, s")
            axes.legend(markerscale=2, loc="upper left")
        return svg(figure)


def _points(scored: Sequence[Scored], metric: str) -> tuple[Array, Array, NDArray[np.bool_]]:
    index = METRICS.index(metric)
    predicted = np.concatenate([one.predicted[OURS_OUT][:, index] for one in scored])
    measured = np.concatenate([one.measured[:, index] for one in scored])
    looped = np.concatenate([one.looped for one in scored])
    both = np.flatnonzero(np.isfinite(predicted) & np.isfinite(measured))
    kept = both[thinned(len(both), MOST_POINTS)]
    return predicted[kept], measured[kept], looped[kept]


def parity_groups(scored: Sequence[Scored], metric: str) -> str:
    """The groups with the most held-out models, one colour per model."""
    able = [one for one in scored if models_of(one, metric) >= LEAST_MODELS]
    chosen = sorted(able, key=lambda one: (-models_of(one, metric), one.key))[:PANELS]
    columns = 4
    lines = max(1, -(-len(chosen) // columns))
    with drawing() as plt:
        figure, panels = plt.subplots(
            lines, columns, figsize=(11.5, 3.0 * lines), layout="constrained", squeeze=False
        )
        for axes in panels.flat[len(chosen) :]:
            axes.axis("off")
        for one, axes in zip(chosen, panels.flat, strict=False):
            _panel(axes, one, metric)
        figure.supxlabel(f"measured {NAMES[metric]}, s")
        figure.supylabel("predicted, s; one colour per held-out model")
        return svg(figure)


def _panel(axes: Axes, one: Scored, metric: str) -> None:
    index = METRICS.index(metric)
    predicted, measured = one.predicted[OURS_OUT][:, index], one.measured[:, index]
    both = np.flatnonzero(np.isfinite(predicted) & np.isfinite(measured))
    low, high = limits(np.concatenate([predicted[both], measured[both]]))
    bands(axes, low, high)
    names = sorted(set(one.models[both].tolist()))
    for number, name in enumerate(names):
        mine = both[one.models[both] == name]
        mine = mine[thinned(len(mine), max(6, PANEL_POINTS // len(names)))]
        colour = MODEL_COLOURS[number % len(MODEL_COLOURS)]
        axes.plot(measured[mine], predicted[mine], ".", ms=5, color=colour, alpha=0.8, mew=0)
    axes.set_title(f"{one.key[0]}\n{one.key[1]}: {len(names)} models", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.minorticks_off()


BINS = 9
SPANS = ((0.15, 5.5), (0.28, 3.2), (0.6, 1.7))
"""Ratios shown, by metric."""


def ratios(scored: Sequence[Scored]) -> str:
    """Ratio against tokens and against batch: median, middle half and middle nine tenths."""
    able = [one for one in scored if np.isfinite(one.predicted[OURS_OUT]).any()]
    across = {
        "prompt and output tokens": np.concatenate([length(x.group.problem) for x in able]),
        "sequences": np.concatenate([batch(x.group.problem) for x in able]),
    }
    looped = np.concatenate([one.looped for one in able])
    with drawing() as plt:
        figure, panels = plt.subplots(2, 3, figsize=(11.5, 6.4), layout="constrained")
        for line, (name, values) in zip(panels, across.items(), strict=True):
            for index, axes in enumerate(line):
                predicted = np.concatenate([one.predicted[OURS_OUT][:, index] for one in able])
                measured = np.concatenate([one.measured[:, index] for one in able])
                for kind, mask, colour in (
                    ("fixed batch", ~looped, PALETTE[0]),
                    ("served", looped, PALETTE[1]),
                ):
                    _trend(axes, values[mask], (predicted / measured)[mask], colour, kind)
                axes.axhline(1.0, color="#4a5568", lw=0.8)
                axes.set_xscale("log")
                plain_ticks(axes, *SPANS[index])
                axes.set_title(NAMES[METRICS[index]])
                axes.set_xlabel(name)
        for line in panels:
            line[0].set_ylabel("predicted / measured, model held out")
        panels[0][0].legend(loc="lower left")
        return svg(figure)


def _trend(axes: Axes, values: Array, ratio: Array, colour: str, label: str) -> None:
    known = np.isfinite(ratio) & (values > 0)
    if known.sum() < 30:
        return
    values, ratio = values[known], ratio[known]
    edges = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)))
    which = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, max(len(edges) - 2, 0))
    kept = [bin_ for bin_ in np.unique(which) if (which == bin_).sum() >= 5]
    centre = np.array([np.exp(np.log(values[which == bin_]).mean()) for bin_ in kept])
    spread = np.array(
        [np.quantile(ratio[which == bin_], [0.05, 0.25, 0.5, 0.75, 0.95]) for bin_ in kept]
    )
    axes.fill_between(centre, spread[:, 0], spread[:, 4], color=colour, alpha=0.12, lw=0)
    axes.fill_between(centre, spread[:, 1], spread[:, 3], color=colour, alpha=0.25, lw=0)
    axes.plot(centre, spread[:, 2], color=colour, lw=1.6, marker="o", ms=3, label=label)


def group_errors(lines: dict[str, list[tuple[str, float, float]]]) -> str:
    """Held-out error of every group of the headline beside that of one fitted factor."""
    tallest = max(len(entries) for entries in lines.values())
    with drawing() as plt:
        figure, panels = plt.subplots(
            1, len(lines), figsize=(11.5, 1.2 + 0.21 * tallest), layout="constrained"
        )
        for (name, entries), axes in zip(lines.items(), np.atleast_1d(panels), strict=True):
            places = np.arange(len(entries))[::-1]
            ours = [100 * entry[1] for entry in entries]
            factor = [100 * entry[2] for entry in entries]
            axes.hlines(places, ours, factor, color=FAINT, lw=1.5)
            axes.plot(factor, places, "o", ms=4, color="#a0aec0", label="one factor, held out")
            axes.plot(ours, places, "o", ms=5, color=PALETTE[0], label="ours, held out")
            axes.axvline(float(np.median(ours)), color=PALETTE[0], lw=0.8, ls="--")
            axes.set_yticks(places, [entry[0] for entry in entries], fontsize=7)
            axes.set_xlim(0, min(100.0, 1.05 * max([*ours, *factor])))
            axes.set_xlabel("geomean error, %")
            axes.set_title(name)
            axes.legend(loc="upper right", fontsize=7)
        return svg(figure)
