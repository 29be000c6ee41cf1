"""Measurements in, predictions beside them out: as a table, and as one figure per metric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.basis import Basis
from analyzer.errors import InputError
from analyzer.predict import predict
from analyzer.records import Record
from analyzer.resolve import question
from reports.plots import PALETTE, drawing, svg

Array = NDArray[np.float64]

METRICS = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}
ACCEPTABLE = 0.20
"""Error up to which people who buy call a prediction usable; drawn, never used."""


class Replayed(NamedTuple):
    """Rows in the order of the files."""

    records: tuple[Record, ...]
    measured: dict[str, Array]
    predicted: dict[str, Array]
    problems: tuple[str, ...]
    """Why a row has no prediction; empty where it has one."""
    basis: Basis

    def error(self, metric: str) -> Array:
        """Predicted over measured, less one."""
        return np.asarray(self.predicted[metric] / self.measured[metric] - 1.0)


def replay(records: Sequence[Record], basis: Basis) -> Replayed:
    """Predict what was measured, row by row."""
    predicted = {name: np.full(len(records), np.nan) for name in METRICS}
    measured = {
        name: np.array([record.metrics.get(name, np.nan) for record in records]) for name in METRICS
    }
    problems = []
    for row, record in enumerate(records):
        problem = ""
        try:
            found = _predict(record, basis)
        except InputError as error:
            problem = str(error)
        else:
            for name in METRICS:
                predicted[name][row] = found[name]
        problems.append(problem)
    return Replayed(tuple(records), measured, predicted, tuple(problems), basis)


def _predict(record: Record, basis: Basis) -> dict[str, float]:
    asked = question(record.scenario)
    arrival = "closed_loop" if asked.arrival.kind == "closed_loop" else "static"
    found = predict(asked.model, asked.system, asked.plan, asked.workload, basis.rates, arrival)
    return {name: float(np.asarray(getattr(found, name))) for name in METRICS}


def scores(found: Replayed, metric: str) -> dict[str, float] | None:
    """Mean, median and largest |error|, the share beyond 20 %, bias and correlation."""
    error = found.error(metric)
    held = np.isfinite(error)
    if not held.any():
        return None
    size = np.abs(error[held])
    spread = held.sum() > 2 and np.ptp(found.measured[metric][held]) > 0
    pairs = found.measured[metric][held], found.predicted[metric][held]
    return {
        "rows": float(held.sum()),
        "mape": float(size.mean()),
        "median": float(np.median(size)),
        "largest": float(size.max()),
        "beyond": float((size > ACCEPTABLE).mean()),
        "bias": float(error[held].mean()),
        "correlation": float(np.corrcoef(*pairs)[0, 1]) if spread else float("nan"),
    }


def figure(found: Replayed, metric: str) -> str:
    """Errors of the rows above, measured and predicted figures below, by length of the prompt."""
    lengths = np.array([record.scenario.input_tokens or 0 for record in found.records])
    order = np.argsort(lengths, kind="stable")
    order = order[np.isfinite(found.error(metric))[order]]
    title, place = METRICS[metric], lengths[order]
    scored = scores(found, metric)
    with drawing() as plt:
        drawn, (above, below) = plt.subplots(
            2, 1, figsize=(8.0, 6.0), sharex=True, layout="constrained"
        )
        above.axhspan(-100 * ACCEPTABLE, 100 * ACCEPTABLE, color="#edf2f7", lw=0)
        above.axhline(0.0, color="#4a5568", lw=0.8)
        above.plot(place, 100 * found.error(metric)[order], "o-", ms=3, lw=1, color=PALETTE[1])
        above.set_ylabel("error, percent")
        above.set_title(f"{title}: predicted over measured ({found.basis.label})")
        if scored is not None:
            above.text(
                0.01, 0.97,
                f"mean |error| {scored['mape']:.1%}, median {scored['median']:.1%}, largest "
                f"{scored['largest']:.1%}; correlation {scored['correlation']:.3f}",
                transform=above.transAxes, va="top", fontsize=8,
            )  # fmt: skip
        _both(below, place, found, metric, order)
        below.set_ylabel(f"{title}, ms")
        below.set_xlabel("prompt tokens")
        below.set_ylim(bottom=0)
        below.legend()
        return svg(drawn)


def _both(
    axes: object, place: Array, found: Replayed, metric: str, order: NDArray[np.intp]
) -> None:
    values = 1e3 * found.predicted[metric][order]
    held = found.basis.interval(metric, values)
    if held is not None:
        axes.fill_between(  # type: ignore[attr-defined]
            place, held.low, held.high, color="#dbe4ee", lw=0, label=f"{held.level:.0%} interval"
        )
    axes.plot(place, 1e3 * found.measured[metric][order], "o", ms=4, color=PALETTE[0],  # type: ignore[attr-defined]
              label="measured")  # fmt: skip
    axes.plot(place, values, "x-", ms=4, lw=1, color=PALETTE[1], label="predicted")  # type: ignore[attr-defined]
