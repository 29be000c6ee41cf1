"""Measured generations against predictions: how far off, beside how far the machine is from itself.

The geomean error is exp(mean |ln(predicted/measured)|) − 1. What was measured is the lower quartile
over the visits to a case, each by a process of its own; the noise is the same error between the
earlier and the later visits (`calibration/visits.py` says why): no prediction can do better than
about that. Rows of models that the calibration was fitted to are shown, and counted apart.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.text import Text

from analyzer import basis
from analyzer.answer import answer
from analyzer.basis import Basis
from analyzer.errors import InputError
from analyzer.records import Record
from analyzer.resolve import question
from analyzer.system import System
from calibration.intake import as_measured_here
from calibration.pace import pace_of, said, slowed, slower
from calibration.visits import STATISTIC, between_halves, by_case, counted, is_disturbed, typical
from reports.table import table

Array = NDArray[np.float64]
METRICS = ("ttft_s", "tpot_s", "e2e_s")
SHORT = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}


class Row(NamedTuple):
    """One case: what was measured and what was predicted, in seconds, by metric."""

    model: str
    weights: str
    batch: float
    input_tokens: float
    output_tokens: float
    measured: Array
    """Lower quartile over the visits; NaN where a metric is missing."""
    predicted: Array
    noise: Array
    """|ln| between earlier and later visits, NaN where there was one."""
    inside: tuple[bool | None, ...]
    """Whether the measured value lies in the predicted interval."""
    fitted: bool
    """The calibration has seen this model."""


class Compared(NamedTuple):
    """All rows of a store."""

    system: str
    label: str
    """Name of the calibration."""
    rows: tuple[Row, ...]
    left_out: dict[str, int]
    drift: dict[str, float]
    """How much longer the gauge's pieces took than while the calibration was measured."""

    def scored(self, metric: int, fitted: bool) -> Array:
        """ln(predicted/measured) of one metric."""
        chosen = [row for row in self.rows if row.fitted == fitted]
        ratios = np.array([np.log(row.predicted[metric] / row.measured[metric]) for row in chosen])
        return np.asarray(ratios[np.isfinite(ratios)], dtype=np.float64)

    def noise(self, metric: int) -> float:
        """Geomean difference between visits, as a ratio; NaN where nothing was visited twice."""
        found = np.array([row.noise[metric] for row in self.rows])
        found = found[np.isfinite(found)]
        return float(np.expm1(found.mean())) if len(found) else float("nan")


BasisOf = Callable[[str], Basis]
"""The rates for an engine class."""


def compare(
    records: Sequence[Record],
    system: System,
    reference: str,
    doubtful: bool = False,
    basis_of: BasisOf | None = None,
) -> Compared:
    """Predict every generation among the records; `reference` is how the system loads by name.

    What others on the machine disturbed is left out, unless `doubtful` records are wanted too.
    Rates are those that serve the system, unless `basis_of` gives others.
    """
    rates = cache(basis_of or partial(basis.calibrated, system, arrival="static"))
    left_out: dict[str, int] = defaultdict(int)
    rows: list[Row] = []
    labels: set[str] = set()
    paces: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as models:
        for visits in by_case(as_measured_here(records, reference, Path(models))):
            repeats, reason = _usable(visits, doubtful)
            if reason:
                left_out[reason] += len(visits)
            if not repeats:
                continue
            try:
                row, label, pace = _row(repeats, system, rates)
                rows.append(row)
                labels.add(label)
                paces.append(pace)
            except InputError as error:
                left_out[str(error)] += len(repeats)
    if not rows:
        said = "; ".join(f"{count} × {reason}" for reason, count in left_out.items())
        raise InputError(f"the records hold no generation that can be compared ({said or 'none'})")
    drift = slower(next(filter(None, paces), {}), pace_of(records))
    return Compared(system.name, ", ".join(sorted(labels)), tuple(rows), dict(left_out), drift)


def _usable(visits: Sequence[Record], doubtful: bool) -> tuple[list[Record], str]:
    """The visits that count, and why there are none; '' where it is no generation at all."""
    first, used = visits[0], counted(visits)
    if first.kind != "e2e":
        return [], ""
    if not used:
        return [], first.flags[0].code if first.flags else "no figures"
    if all(map(is_disturbed, used)) and not doubtful:
        return [], "others were on the machine meanwhile"
    return used, ""


def _row(
    repeats: Sequence[Record], system: System, rates_of: BasisOf
) -> tuple[Row, str, dict[str, float]]:
    first = repeats[0]
    asked = question(first.scenario, first.provenance.date)
    rates = rates_of(asked.engine.name)
    found = answer(asked.model, system, asked.plan, asked.workload, rates)
    visits = [[r.metrics.get(name, np.nan) for r in repeats] for name in METRICS]
    measured = np.array([typical(values) for values in visits])
    predicted = np.array([float(getattr(found.prediction, name)) for name in METRICS])
    hull = rates.calibration.hull if rates.calibration else None
    row = Row(
        model=_plain(first.scenario.model),
        weights=first.scenario.weight_precision,
        batch=float(asked.workload.batch),
        input_tokens=float(asked.workload.input_tokens),
        output_tokens=float(asked.workload.output_tokens),
        measured=measured,
        predicted=predicted,
        noise=np.array([between_halves(values) for values in visits]),
        inside=tuple(
            _inside(found.interval(name), value)
            for name, value in zip(METRICS, measured, strict=True)
        ),
        fitted=hull is not None and asked.model.name in hull.models,
    )
    return row, rates.label, rates.calibration.pace if rates.calibration else {}


def _plain(model: str) -> str:
    return Path(model).stem if model.endswith(".json") else model


def _inside(interval: Any, value: float) -> bool | None:
    if interval is None or not np.isfinite(value):
        return None
    return bool(float(interval.low) <= value <= float(interval.high))


def geomean(ratios: Array) -> float:
    """exp(mean |ln|) − 1; NaN of nothing."""
    return float(np.expm1(np.abs(ratios).mean())) if len(ratios) else float("nan")


def lines(found: Compared) -> Iterator[Any]:
    """The comparison, row by row and in three figures."""
    seen = sum(row.fitted for row in found.rows)
    yield Text(f"{found.system}, predicted with {found.label}", style="bold")
    yield _cases(found.rows)
    yield _scores(found)
    yield Text(
        "error: exp(mean |ln(predicted/measured)|) − 1 over the models that were not fitted "
        f"({len(found.rows) - seen} cases); measured: {STATISTIC}; noise: the same error between "
        "the earlier and the later half of the visits, each in a process of its own",
        style="dim",
    )
    if found.drift:
        yield Text(_pace(found), style="dim")
    for reason, count in found.left_out.items():
        yield Text(f"left out: {count} × {reason}", style="yellow")


def _pace(found: Compared) -> str:
    """How fast the machine was meanwhile, and what the errors would be had that been known."""
    knowing = (
        f"{SHORT[name]} {_percent(geomean(slowed(found.scored(index, fitted=False), found.drift)))}"
        for index, name in enumerate(METRICS)
    )
    return (
        f"pace of the machine in the check against the calibration's time, by its gauge: "
        f"{said(found.drift)} (+: slower); errors with predictions slowed like the step: "
        f"{', '.join(knowing)}"
    )


def _cases(rows: Iterable[Row]) -> Any:
    columns = ("model", "weights", "batch", "in", "out", *_columns())
    body = [
        (
            row.model + (" (fitted)" if row.fitted else ""),
            row.weights,
            f"{row.batch:g}",
            f"{row.input_tokens:g}",
            f"{row.output_tokens:g}",
            *_cells(row),
        )
        for row in sorted(rows, key=lambda r: (r.fitted, r.model, r.weights, r.batch))
    ]
    return table(columns, body, left=("model", "weights"))


def _columns() -> Iterator[str]:
    for name in METRICS:
        yield f"{SHORT[name]} measured"
        yield "predicted"


def _cells(row: Row) -> Iterator[str]:
    for measured, predicted in zip(row.measured, row.predicted, strict=True):
        known = np.isfinite(measured)
        yield f"{1e3 * measured:.4g} ms" if known else "-"
        yield f"{predicted / measured - 1:+.1%}" if known else "-"


def _scores(found: Compared) -> Any:
    body = []
    for index, name in enumerate(METRICS):
        ratios, again = found.scored(index, fitted=False), found.scored(index, fitted=True)
        bias = float(np.expm1(ratios.mean())) if len(ratios) else float("nan")
        worst = float(np.expm1(np.abs(ratios).max())) if len(ratios) else float("nan")
        told = [row.inside[index] for row in found.rows if row.inside[index] is not None]
        body.append(
            (
                SHORT[name],
                _percent(geomean(ratios)),
                f"{bias:+.1%}" if np.isfinite(bias) else "-",
                _percent(worst),
                _percent(found.noise(index)),
                _percent(geomean(again)),
                f"{sum(map(bool, told))}/{len(told)}" if told else "-",
            )
        )
    columns = ("", "error", "bias", "worst", "noise", "fitted models", "inside the interval")
    return table(columns, body, left=("",))


def _percent(share: float) -> str:
    return f"{share:.1%}" if np.isfinite(share) else "-"
