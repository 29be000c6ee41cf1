"""Reliability of the intervals, and the RTX 3090 request by request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.phase import Phase, time_phase, time_prefill
from analyzer.timing.rates import Rates
from calibration.fit import fit
from calibration.parameters import selected
from calibration.problem import METRICS, Problem
from calibration.relevant import relevant
from reports.plots import PALETTE, drawing, svg
from reports.validate.pick import NAMES
from reports.validate.reliability import LEVELS, Curve
from reports.validate.rtx3090 import Halves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]


def reliability(curves: Sequence[Curve]) -> str:
    """Measured coverage against the nominal level, and the width that it costs."""
    nominal = 100 * np.array(LEVELS)
    with drawing() as plt:
        figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 4.0), layout="constrained")
        left.plot([45, 100], [45, 100], color="#4a5568", lw=0.8)
        left.fill_between([45, 100], [40, 95], [50, 105], color="#edf2f7", lw=0)
        for curve, colour in zip(curves, PALETTE, strict=False):
            name = NAMES[curve.metric]
            left.plot(nominal, 100 * np.array(curve.covered), "o-", color=colour, label=name)
            left.plot(
                nominal,
                100 * np.array(curve.covered_models),
                "s--",
                ms=3,
                lw=0.8,
                color=colour,
                label=f"{name}, each model once",
            )
            right.plot(nominal, 100 * np.array(curve.half_width), "o-", color=colour, label=name)
        left.set(xlabel="nominal, %", ylabel="measured coverage, %", xlim=(45, 100), ylim=(35, 102))
        left.set_title("Coverage (shaded: within 5 points)")
        left.legend(fontsize=7, loc="upper left")
        right.set(
            xlabel="nominal, %", ylabel="half-width of the middle interval, %", xlim=(45, 100)
        )
        right.set_yscale("log")
        right.set_title("Width")
        right.legend(fontsize=7)
        return svg(figure)


def _sorted(problem: Problem) -> NDArray[np.intp]:
    prompts = np.array([case.workload.input_tokens for case in problem.cases])
    return np.argsort(prompts, kind="stable")


def request_errors(halves: Halves) -> str:
    """Relative error of every request while it was held out."""
    with drawing() as plt:
        figure, panels = plt.subplots(1, 2, figsize=(11.5, 3.6), layout="constrained", sharey=True)
        for axes, (name, (half, measured)), problem in zip(
            panels, halves.each().items(), halves.found.problems, strict=True
        ):
            order = _sorted(problem)
            prompts = np.array([problem.cases[row].workload.input_tokens for row in order])
            axes.axhspan(-5, 5, color="#edf2f7", lw=0)
            axes.axhline(0, color="#4a5568", lw=0.8)
            for index, metric in enumerate(METRICS):
                error = 100 * (half.predicted[order, index] / measured[order, index] - 1)
                mean = 100 * half.errors[metric]
                label = f"{NAMES[metric]}: MAPE {mean:.2f} %"
                axes.plot(prompts, error, "o-", ms=3, lw=1, color=PALETTE[index], label=label)
            axes.set_title(name)
            axes.set_xlabel("prompt tokens")
            axes.legend(fontsize=7, loc="lower right")
        panels[0].set_ylabel("predicted / measured − 1, %")
        return svg(figure)


def request_times(halves: Halves) -> str:
    """Measured and predicted time of every request, with their correlation."""
    with drawing() as plt:
        figure, panels = plt.subplots(2, 3, figsize=(11.5, 5.6), layout="constrained")
        for line, (name, (half, measured)), problem in zip(
            panels, halves.each().items(), halves.found.problems, strict=True
        ):
            order = _sorted(problem)
            prompts = np.array([problem.cases[row].workload.input_tokens for row in order])
            for index, axes in enumerate(line):
                real = 1e3 * measured[order, index]
                said = 1e3 * half.predicted[order, index]
                both = np.isfinite(said)
                matched = np.corrcoef(real[both], said[both])[0, 1]
                axes.plot(prompts, real, "o", ms=4, color=PALETTE[0], label="measured")
                axes.plot(prompts, said, "x-", ms=4, lw=0.8, color=PALETTE[1], label="predicted")
                axes.set_title(f"{NAMES[METRICS[index]]}, {name}: r = {matched:.4f}", fontsize=9)
                axes.set_xlabel("prompt tokens")
                axes.set_ylabel("ms")
        panels[0][0].legend(fontsize=7)
        return svg(figure)


def request_parts(halves: Halves) -> str:
    """Where the time of a request goes: cards, links and host, in prefill and in decoding."""
    with drawing() as plt:
        figure, panels = plt.subplots(2, 2, figsize=(11.5, 5.6), layout="constrained")
        for column, (name, problem) in enumerate(
            zip(halves.each(), halves.found.problems, strict=True)
        ):
            rates = fit(problem, selected(relevant(problem)), Rates.default()).rates
            order = _sorted(problem)
            bundle = problem.bundles[0]
            place = np.argsort(bundle.positions)[order]
            prompts = np.array([problem.cases[row].workload.input_tokens for row in order])
            first = time_prefill(bundle.prefill, problem.machine, rates)
            later = time_phase(bundle.decode, problem.machine, rates)
            for line, (phase, metric) in enumerate(((first, 0), (later, 1))):
                axes = panels[line][column]
                _stack(axes, prompts, phase, place)
                real = 1e3 * problem.observed[order, metric]
                axes.plot(prompts, real, "o", ms=3, color="#1a202c", label="measured")
                axes.set_title(f"{NAMES[METRICS[metric]]}, {name}", fontsize=9)
                axes.set_xlabel("prompt tokens")
                axes.set_ylabel("ms")
        panels[0][0].legend(fontsize=7, loc="upper left")
        return svg(figure)


def _stack(axes: Axes, prompts: Array, phase: Phase, place: NDArray[np.intp]) -> None:
    shape = np.shape(phase.total_s)
    total, cards, links = (
        1e3 * np.broadcast_to(values, shape)[place]
        for values in (phase.total_s, phase.device_s, phase.network_s)
    )
    links = np.minimum(links, total)
    cards = np.clip(cards - links, 0.0, total - links)
    layers = (cards, links, np.maximum(total - cards - links, 0.0))
    axes.stackplot(
        prompts,
        *layers,
        labels=("cards", "links", "host beyond the cards"),
        colors=("#90cdf4", "#fbd38d", "#c6f6d5"),
        lw=0,
    )
