"""The bake-off: other predictors on the same rows, by the same definitions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from calibration.bakeoff import (
    MOST_ROWS,
    Place,
    Rival,
    bakeoff,
    measured_at,
    ours_at,
    read_answers,
    sample,
    write_answers,
    write_rows,
)
from calibration.problem import METRICS
from calibration.scored import DEFAULT, FACTOR_OUT, IDEAL, OURS_OUT, SCALED, Scored
from calibration.tally import tally
from reports.validate.pick import NAMES
from reports.validate.table import Cell, Section, Table, table

Array = NDArray[np.float64]

FOLDER = "peers"
OURS_WAYS = (IDEAL, DEFAULT, FACTOR_OUT, SCALED, OURS_OUT)
WITH_FACTOR = ("genz",)
"""Peers with one efficiency that a user is to choose."""
TEXT = (
    "Up to {most} rows of dense models in fixed batches, dealt out evenly over the groups with at "
    "least four models in the order of their records' hashes, so that nobody chose them. Ours is "
    "scored with each model held out. GenZ is given our catalog's sizes and figures, is asked "
    "for the middle of the output, and is shown at its default efficiency of 0.6, at 1.0, and at "
    "the one efficiency per group that suits the other models best. aiconfigurator answers from "
    "its own kernel timings for the machines and engines that it has tables of, at versions newer "
    "than those measured. The second table compares each on the rows that it answered.",
    "Their answers are kept in `peers/`, so that this page regenerates without their packages; "
    "`plumbline bakeoff` asks them again, and scores any CSV with the columns id, ttft_s, tpot_s, "
    "e2e_s (`--rows` writes the rows to be answered).",
)


class Entrant(NamedTuple):
    """One line of the comparison."""

    name: str
    predicted: Array


def bakeoff_section(scored: Sequence[Scored], folder: Path) -> Section:
    """Everybody on all sampled rows, and in pairs on what each peer answered."""
    places = sample(scored)
    rivals = stored(folder / FOLDER)
    return Section(
        "bakeoff",
        "Bake-off",
        (TEXT[0].format(most=MOST_ROWS), TEXT[1]),
        tables(places, scored, rivals),
    )


def stored(folder: Path) -> list[Rival]:
    """Answers at hand, by file name."""
    return [Rival(path.stem, read_answers(path)) for path in sorted(folder.glob("*.csv"))]


def tables(
    places: Sequence[Place], scored: Sequence[Scored], rivals: Sequence[Rival]
) -> tuple[Table, ...]:
    """The comparison on all rows, the comparison in pairs, and why rows went unanswered."""
    measured = measured_at(places, scored)
    ours = [Entrant(way, ours_at(places, scored, way)) for way in OURS_WAYS]
    theirs = [entrant for rival in rivals for entrant in _variants(rival, places, measured)]
    lines = [_line(entrant, measured) for entrant in (*ours, *theirs)]
    columns = ["predictor"]
    for metric in METRICS:
        columns += [f"{NAMES[metric]} rows:count", f"geomean {NAMES[metric]}:percent"]
        columns += [f"bias {NAMES[metric]}:signed"]
    made = [table("everybody", columns, lines, f"**{len(places)} rows**")]
    if theirs:
        made += [_pairs(theirs, ours[-1], measured), _silent(places, rivals)]
    return tuple(made)


def _variants(rival: Rival, places: Sequence[Place], measured: Array) -> list[Entrant]:
    if not rival.name.startswith(WITH_FACTOR):
        return [Entrant(rival.name, rival.predicted(places))]
    return [
        Entrant(f"{rival.name} at 1.0", rival.predicted(places)),
        Entrant(f"{rival.name} at 0.6", rival.predicted(places, 0.6)),
        Entrant(f"{rival.name}, best one factor", rival.best_factor(places, measured)),
    ]


def _line(entrant: Entrant, measured: Array) -> list[Cell]:
    cells: list[Cell] = [entrant.name]
    for index in range(len(METRICS)):
        found = tally(entrant.predicted[:, index], measured[:, index])
        cells += [found.rows, found.geomean, found.bias]
    return cells


def _pairs(theirs: Sequence[Entrant], ours: Entrant, measured: Array) -> Table:
    lines: list[list[Cell]] = []
    for entrant in theirs:
        for index, metric in enumerate(METRICS):
            both = np.isfinite(entrant.predicted[:, index]) & np.isfinite(ours.predicted[:, index])
            found = tally(entrant.predicted[both, index], measured[both, index])
            mine = tally(ours.predicted[both, index], measured[both, index])
            if found.rows:
                figures = (found.rows, found.geomean, mine.geomean, found.median, mine.median)
                lines.append([entrant.name, NAMES[metric], *figures])
    columns = (
        "predictor",
        "metric",
        "rows:count",
        "its geomean:percent",
        "ours, held out:percent",
        "its median:percent",
        "ours, median:percent",
    )
    return table("pairs", columns, lines, "**On the rows that each answered**")


def _silent(places: Sequence[Place], rivals: Sequence[Rival]) -> Table:
    lines: list[list[Cell]] = []
    for rival in rivals:
        found = [rival.answers.get(place.asked.id) for place in places]
        said = Counter("not asked" if one is None else one.problem or "answered" for one in found)
        lines += [[rival.name, why, count] for why, count in said.most_common()]
    return table("unanswered", ("predictor", "outcome", "rows:count"), lines, "**Answers**")


class BakeoffOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to ask, and what else to score."""

    peers: tuple[str, ...] = ()
    """Of calibration.peers.PEERS; their answers are kept in `folder`."""
    python: str = ""
    """An interpreter that has the peers' packages; empty: this one."""
    predictions: tuple[Path, ...] = ()
    """CSVs of somebody's predictions: id, ttft_s, tpot_s, e2e_s."""
    rows: Path | None = None
    """Where to write the rows to be answered; nothing else is done then."""
    folder: Path | None = None
    """Where peers' answers are kept; empty: they are not kept."""
    most: int = MOST_ROWS


def run_bakeoff(
    options: BakeoffOptions, scored: Sequence[Scored], others: Sequence[Rival] = ()
) -> tuple[Table, ...]:
    """Ask, score and compare, with `others` whose answers are at hand; returns the tables."""
    if options.most < 1:
        raise ConfigError(f"at least one row must be asked about, not {options.most}")
    places = sample(scored, options.most)
    if options.rows is not None:
        write_rows(places, options.rows)
        return ()
    rivals = list(others)
    for name in options.peers:
        answers = bakeoff(places, name, options.python)
        if options.folder is not None:
            write_answers(answers, options.folder / f"{name}.csv")
        rivals.append(Rival(name, answers))
    rivals += [Rival(path.stem, read_answers(path)) for path in options.predictions]
    return tables(places, scored, rivals)
