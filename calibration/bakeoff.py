"""Any predictor on the same rows, by the same definitions.

`sample` chooses rows of fixed batches that every peer could be asked about, `bakeoff` asks a peer
and keeps what it said as a CSV, `read_answers` reads such a file back, or one that somebody else
wrote: columns id, ttft_s, tpot_s, e2e_s (any may be empty).
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.model import Attention, DenseFFN
from analyzer.records import Record
from analyzer.records_codec import record_id
from analyzer.strict_csv import TableSource, read_csv_rows
from calibration.collect import collect
from calibration.peers import Answer, Asked, peer
from calibration.problem import METRICS, Case, predict
from calibration.rounds import Progress, first_round
from calibration.scored import OURS, OURS_OUT, Scored, without_calibration

Array = NDArray[np.float64]

MOST_ROWS = 300
LEAST_MODELS = 4
FIXED = tuple(f"fixed_{metric}" for metric in METRICS)
COLUMNS = ("id", *METRICS, *FIXED, "problem")
"""Times at efficiency 1 that an efficiency divides, and what it does not touch."""


class Place(NamedTuple):
    """Where an asked row stands among what was scored."""

    asked: Asked
    group: int
    row: int


def sample(scored: Sequence[Scored], most: int = MOST_ROWS) -> list[Place]:
    """Rows of dense models in fixed batches, dealt out over the groups, the same every time.

    Only groups with enough models take part: with fewer, nobody can be held out.
    """
    hands = [_hand(one, index) for index, one in enumerate(scored)]
    hands = [hand if _models(hand) >= LEAST_MODELS else [] for hand in hands]
    chosen: list[Place] = []
    depth = 0
    while len(chosen) < most and any(len(hand) > depth for hand in hands):
        chosen += [hand[depth] for hand in hands if len(hand) > depth]
        depth += 1
    return chosen[:most]


def contestable(records: Iterable[Record]) -> list[Scored]:
    """Groups that the sample may draw from, not predicted yet."""
    groups = collect(records).groups
    found = [Scored(key, group, {}) for key, group in sorted(groups.items())]
    return [one for one in found if _models(_hand(one, 0)) >= LEAST_MODELS]


def fitted_without_each_model(
    drawn: Sequence[Scored], progress: Progress | None = None
) -> list[Scored]:
    """Every way's predictions, ours by fits that never saw the model.

    Such groups have models enough of their own to be fitted with generic priors, so nothing else
    of the corpus needs to be fitted.
    """
    fitted = first_round({one.key: one.group for one in drawn}, progress)
    return [
        one._replace(
            predicted=without_calibration(one.group.problem)
            | {
                OURS: predict(one.group.problem, fitted[one.key].fit.rates),
                OURS_OUT: fitted[one.key].held_out.predicted,
            }
        )
        for one in drawn
    ]


def _hand(one: Scored, index: int) -> list[Place]:
    """Suitable rows of one group, in the order of their ids, which is no order at all."""
    group = one.group
    places = [
        Place(Asked(record_id(record), group.system, one.key[1], case), index, row)
        for row, (case, record) in enumerate(zip(group.problem.cases, group.records, strict=True))
        if _dense(case) and not case.looped and case.workload.output_tokens > 1
    ]
    return sorted(places, key=lambda place: place.asked.id)


def _models(hand: Sequence[Place]) -> int:
    return len({place.asked.case.group for place in hand})


def _dense(case: Case) -> bool:
    return all(
        isinstance(layer.mixer, Attention) and isinstance(layer.ffn, DenseFFN)
        for layer in case.model.layers
    )


def bakeoff(places: Sequence[Place], name: str, python: str = "") -> dict[str, Answer]:
    """Ask a peer by name, under an interpreter that has its package."""
    return peer(name)([place.asked for place in places], python)


class Rival(NamedTuple):
    """A peer's answers laid beside the measurements of the rows that were asked."""

    name: str
    answers: dict[str, Answer]

    def predicted(self, places: Sequence[Place], efficiency: float = 1.0) -> Array:
        """ttft_s, tpot_s, e2e_s of every place; NaN where it has no answer."""
        nothing = Answer(problem="not asked")
        rows = [self.answers.get(place.asked.id, nothing) for place in places]
        return np.array([answer.times(efficiency) for answer in rows]).reshape(-1, len(METRICS))

    def best_factor(self, places: Sequence[Place], measured: Array) -> Array:
        """Predictions by the best one efficiency of each group, each model held out."""
        grid = np.geomspace(0.02, 1.0, 160)
        times = np.log([self.predicted(places, float(efficiency)) for efficiency in grid])
        errors = np.abs(times - np.log(measured))
        groups = np.array([place.group for place in places])
        models = np.array([place.asked.case.group for place in places])
        result = np.full(measured.shape, np.nan)
        for group, model in sorted({(int(g), str(m)) for g, m in zip(groups, models, strict=True)}):
            others = errors[:, (groups == group) & (models != model)].reshape(len(grid), -1)
            known = np.isfinite(others[0])
            if known.any():
                best = int(np.argmin(others[:, known].mean(axis=1)))
                mine = (groups == group) & (models == model)
                result[mine] = np.exp(times[best][mine])
        return result


def measured_at(places: Sequence[Place], scored: Sequence[Scored]) -> Array:
    """What was measured at every place."""
    return np.array([scored[place.group].measured[place.row] for place in places])


def ours_at(places: Sequence[Place], scored: Sequence[Scored], way: str) -> Array:
    """What one of our own ways says of every place."""
    return np.array([scored[place.group].predicted[way][place.row] for place in places])


def write_answers(answers: dict[str, Answer], path: Path) -> Path:
    """Keep a peer's answers as a CSV, in the order of the ids."""
    rows = []
    for key, answer in sorted(answers.items()):
        figures = (*answer.scaled_s, *answer.fixed_s)
        cells = [f"{value:.6g}" if math.isfinite(value) else "" for value in figures]
        rows.append([key, *(cells if not answer.problem else [""] * 6), answer.problem])
    return _written(path, COLUMNS, rows)


def read_answers(path: Path) -> dict[str, Answer]:
    """Answers from a CSV of ours or of somebody else."""
    answers: dict[str, Answer] = {}
    for line_no, row in read_csv_rows(path, required=("id",)):
        at = TableSource(path=str(path), line_no=line_no)
        times, fixed = _times(at, row, METRICS), _times(at, row, FIXED)
        if row.get("problem"):
            answers[row["id"]] = Answer(problem=row["problem"])
        elif FIXED[0] in row:
            answers[row["id"]] = Answer(times, fixed)
        else:
            answers[row["id"]] = Answer(fixed_s=times)
    return answers


def _times(
    at: TableSource, row: dict[str, str], names: Sequence[str]
) -> tuple[float, float, float]:
    first, second, third = (
        at.number(name, row[name], least=0.0) if row.get(name, "").strip() else math.nan
        for name in names
    )
    return first, second, third


ASKED = (
    "id",
    "hardware",
    "engine",
    "model",
    "weight_precision",
    "tp",
    "pp",
    "gpus",
    "batch_or_concurrency",
    "input_tokens",
    "output_tokens",
)


def write_rows(places: Iterable[Place], path: Path) -> Path:
    """The rows that are asked about, for somebody else's predictor to answer."""
    rows = []
    for place in places:
        asked, plan, load = place.asked, place.asked.case.plan, place.asked.case.workload
        names = [asked.id, asked.system.name, asked.engine, asked.case.model.name, plan.weights]
        layout = [str(int(number)) for number in (plan.tp, plan.pp, plan.devices)]
        lengths = [f"{n:g}" for n in (load.batch, load.input_tokens, load.output_tokens)]
        rows.append([*names, *layout, *lengths])
    return _written(path, ASKED, rows)


def _written(path: Path, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Path:
    """A table, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.part")
    with unfinished.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    unfinished.replace(path)
    return path
