"""The error report as something to ask: which rows, how far off, and which are the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.strict_csv import TableSource, read_csv_rows
from reports.web.figure import Figure, Rule, figure

FOLDER = Path(__file__).resolve().parents[1] / "validation"
FILE = "points.csv"
ALL = "all"
METRICS = {"ttft": "time to first token", "tpot": "time per output token", "e2e": "end to end"}
LOADS = (ALL, "fixed batch", "served", "offline")
WAYS = {"held_out_s": "model held out", "in_sample_s": "in-sample"}
TEXTS = ("system", "engine", "model", "load", "metric", "weights", "source")
NUMBERS = ("devices", "batch", "input", "output", "measured_s", "held_out_s", "in_sample_s")
MOST_POINTS = 3000
MOST_BARS = 30
MOST_COLOURS = 10
WORST = 15

Texts = NDArray[np.str_]
Floats = NDArray[np.float64]


class Points(NamedTuple):
    """Measured figures with their predictions, as columns; NaN where there is no number."""

    texts: dict[str, Texts]
    numbers: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.texts["system"])

    def where(self, mask: NDArray[np.bool_]) -> Points:
        """Some of the rows."""
        return Points(
            {name: values[mask] for name, values in self.texts.items()},
            {name: values[mask] for name, values in self.numbers.items()},
        )

    def known(self, column: str) -> tuple[str, ...]:
        """Every value of a column of text, in alphabetical order."""
        return tuple(sorted(set(self.texts[column].tolist()), key=str.lower))


def load(folder: Path | None = None) -> Points:
    """The points of the shipped report, or of another; a sentence where there are none."""
    path = (folder or FOLDER) / FILE
    if not path.is_file():
        raise ConfigError(f"{path.name} is not there yet; `plumbline validate` writes it")
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _load(path: Path, _changed: int) -> Points:
    texts: dict[str, list[str]] = {name: [] for name in TEXTS}
    numbers: dict[str, list[float]] = {name: [] for name in NUMBERS}
    for line_no, row in read_csv_rows(path, required=(*TEXTS, *NUMBERS)):
        place = TableSource(path=str(path), line_no=line_no)
        for name, kept in texts.items():
            kept.append(row[name])
        for name, values in numbers.items():
            values.append(place.number(name, row[name]) if row[name] else np.nan)
    return Points(
        {name: np.array(kept, dtype=np.str_) for name, kept in texts.items()},
        {name: np.array(values) for name, values in numbers.items()},
    )


class Errors(NamedTuple):
    """How far predictions lie from measurements, as fractions."""

    rows: int
    geomean: float
    median: float
    p90: float
    bias: float
    within_10: float


def errors(points: Points, way: str) -> Errors:
    """Over the rows that have both; NaN throughout where there are none."""
    logs = np.log(_ratios(points, way))
    logs = logs[np.isfinite(logs)]
    if not len(logs):
        return Errors(0, *[float("nan")] * 5)
    size = np.abs(np.expm1(logs))
    return Errors(
        len(logs),
        float(np.expm1(np.mean(np.abs(logs)))),
        float(np.median(size)),
        float(np.quantile(size, 0.9)),
        float(np.expm1(np.mean(logs))),
        float(np.mean(size <= 0.1)),
    )


DEFINITIONS = (
    "geomean error: exp(mean |ln(predicted/measured)|) − 1",
    "median and p90: of |predicted/measured − 1|",
    "bias: exp(mean ln(predicted/measured)) − 1; above 0: predicted too slow",
    "model held out: the fit never saw that model on that system and engine",
)


def _ratios(points: Points, way: str) -> Floats:
    return points.numbers[way] / points.numbers["measured_s"]


def chosen(points: Points, values: dict[str, Any]) -> Points:
    """The rows that the page's filters leave, with a prediction of the chosen kind."""
    mask = points.texts["metric"] == values["metric"]
    for name in ("system", "engine", "load"):
        if values[name] != ALL:
            mask &= points.texts[name] == values[name]
    return points.where(mask & np.isfinite(points.numbers[values["way"]]))


def _group_of(points: Points) -> tuple[str, Texts]:
    """What rows are told apart by: the models of one group, else systems and engines."""
    texts = points.texts
    if len(set(zip(texts["system"].tolist(), texts["engine"].tolist(), strict=True))) <= 1:
        return "model", texts["model"]
    return "system · engine", np.char.add(np.char.add(texts["system"], " · "), texts["engine"])


def by_group(points: Points, way: str) -> Figure:
    """Error of each group, the worst first."""
    name, groups = _group_of(points)
    found = [
        (group, len(set(mine.texts["model"].tolist())), *errors(mine, way))
        for group in sorted(set(groups.tolist()))
        for mine in (points.where(groups == group),)
    ]
    found.sort(key=lambda row: -row[3])
    left = len(found) - MOST_BARS
    return figure(
        "plumbline-errors",
        f"Geomean error by {name}",
        "bar",
        (
            ("group", name), ("models", "models"), ("rows", "rows"),
            ("geomean", "geomean error", "share"), ("median", "median error", "share"),
            ("p90", "p90 error", "share"), ("bias", "bias", "share"),
            ("within", "within 10 %", "share"),
        ),
        found[:MOST_BARS],
        x="geomean",
        y="group",
        caption=f"The worst {MOST_BARS}; {left} more are better." if left > 0 else "",
    )  # fmt: skip


def parity(points: Points, values: dict[str, Any]) -> Figure:
    """Predicted over measured, one point a row."""
    return _scatter(
        points, values, "plumbline-parity",
        f"Predicted against measured: {METRICS[values['metric']]}", "parity",
        x="measured_s", y="predicted_s", caption="Shaded: ±10 % and ±20 %.",
    )  # fmt: skip


def ratios(points: Points, values: dict[str, Any]) -> Figure:
    """Ratio of predicted to measured against what is on the page's axis."""
    titles = {"tokens": "prompt and answer, tokens", "batch": "sequences", "devices": "devices"}
    axis = values["axis"]
    return _scatter(
        points, values, "plumbline-ratios",
        f"Predicted over measured, against {titles[axis]}", "point",
        x=axis, y="ratio", log_x=True, log_y=True,
        rules=(Rule("y", 1.0, "as measured"),),
    )  # fmt: skip


_COLUMNS = (
    ("system", "system"), ("engine", "engine"), ("model", "model"), ("load", "load"),
    ("devices", "devices"), ("batch", "sequences"), ("input", "prompt tokens"),
    ("output", "answer tokens"), ("tokens", "prompt and answer, tokens"), ("weights", "weights"),
    ("measured_s", "measured", "s"), ("predicted_s", "predicted", "s"),
    ("ratio", "predicted / measured"), ("source", "source"),
)  # fmt: skip


def _scatter(
    points: Points, values: dict[str, Any], name: str, title: str, mark: str, **how: Any
) -> Figure:
    shown = points.where(_thinned(len(points)))
    said = how.pop("caption", "")
    if len(shown) < len(points):
        said = f"{said} An even sample of {len(shown):,} of {len(points):,} points.".strip()
    return figure(
        name, title, mark, _COLUMNS, _cells(shown, values["way"]),
        color=_colour(points), caption=said, **how,
    )  # fmt: skip


def _thinned(count: int) -> NDArray[np.bool_]:
    kept = np.zeros(count, dtype=bool)
    kept[np.unique(np.linspace(0, count - 1, min(count, MOST_POINTS)).round().astype(int))] = True
    return kept


def _colour(points: Points) -> str:
    """By model, engine or system where these are few, else by load."""
    for name in ("model", "engine", "system"):
        if 1 < len(points.known(name)) <= MOST_COLOURS:
            return name
    return "load"


def _cells(points: Points, way: str) -> Iterator[tuple[Any, ...]]:
    numbers = {
        **points.numbers,
        "predicted_s": points.numbers[way],
        "ratio": _ratios(points, way),
        "tokens": points.numbers["input"] + points.numbers["output"],
    }
    columns = [
        points.texts[name].tolist() if name in TEXTS else numbers[name].tolist()
        for name, *_ in _COLUMNS
    ]
    yield from zip(*columns, strict=True)


def worst(points: Points, way: str, metric_label: Callable[[float], str]) -> list[tuple[str, ...]]:
    """The worst row of each system, engine and model: text for a table."""
    size = np.abs(np.log(_ratios(points, way)))
    order = np.argsort(-size, kind="stable")
    texts, numbers = points.texts, points.numbers
    seen: set[tuple[str, ...]] = set()
    made: list[tuple[str, ...]] = []
    for at in order.tolist():
        place = tuple(str(texts[name][at]) for name in ("system", "engine", "model"))
        if place in seen or not np.isfinite(size[at]):
            continue
        seen.add(place)
        counts = [f"{numbers[name][at]:,g}" for name in ("devices", "batch", "input", "output")]
        times = [metric_label(float(numbers[name][at])) for name in ("measured_s", way)]
        ratio = f"{numbers[way][at] / numbers['measured_s'][at]:.2f}"
        named = (f"{place[0]} · {place[1]}", place[2], str(texts["source"][at]))
        made.append((*named, *counts, *times, ratio))
        if len(made) == WORST:
            break
    return made


WORST_HEADS = (
    "system and engine", "model", "source", "devices", "sequences", "prompt", "answer",
    "measured", "predicted", "ratio",
)  # fmt: skip
