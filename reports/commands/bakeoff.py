"""Other predictors on the rows that ours is scored on, by the same definitions.

plumbline bakeoff                                   ours, and what peers answered when last asked
plumbline bakeoff --ask genz --python venv/bin/python     asks a peer whose package is there
plumbline bakeoff --rows rows.csv                   the rows, for a predictor of your own to answer
plumbline bakeoff --predictions mine.csv            scores such answers: id, ttft_s, tpot_s, e2e_s
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from reports.console import complain, write, write_json


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "--ask", action="append", default=[], metavar="PEER", help="genz or aiconfigurator"
    )
    parser.add_argument("--python", default="", help="an interpreter that has the peer's package")
    parser.add_argument("--keep", metavar="DIR", help="keep what peers answer, as CSV")
    parser.add_argument(
        "--predictions", action="append", default=[], metavar="CSV", help="answers to score"
    )
    parser.add_argument("--rows", metavar="CSV", help="only write the rows that are asked about")
    parser.add_argument("--most", type=int, default=300, help="rows at most (300)")
    parser.add_argument("--data", metavar="DIR", help="measurements (the shipped ones)")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Ask, score, print."""
    from calibration.bakeoff import contestable, fitted_without_each_model
    from calibration.corpus import PERF_DIR, load_corpus
    from calibration.peers import peer
    from reports.validate.bakeoff import BakeoffOptions, run_bakeoff

    for name in options.ask:
        peer(name)
    asked = BakeoffOptions(
        peers=tuple(options.ask),
        python=options.python,
        predictions=tuple(Path(path) for path in options.predictions),
        rows=Path(options.rows) if options.rows else None,
        folder=Path(options.keep) if options.keep else None,
        most=options.most,
    )
    groups = contestable(load_corpus(Path(options.data) if options.data else PERF_DIR).records)
    if asked.rows is not None:
        run_bakeoff(asked, groups)
        write(f"rows written to {asked.rows}")
        return
    _answerable(asked.predictions)
    scored = fitted_without_each_model(groups, _progress)
    made = run_bakeoff(asked, scored, () if options.ask or asked.predictions else _stored())
    if options.json:
        write_json({table.name: _plain(table) for table in made})
    else:
        from reports.validate.markdown import page
        from reports.validate.table import Section

        write(page("Bake-off", [Section("bakeoff", "Predictors", tables=made)]).rstrip())


def _answerable(paths: tuple[Path, ...]) -> None:
    """Read what is to be scored before minutes are spent on fits."""
    from calibration.bakeoff import read_answers

    for path in paths:
        read_answers(path)


def _stored() -> list[Any]:
    from reports.validate.bakeoff import FOLDER, stored
    from reports.validate.command import FOLDER as REPORT

    return stored(REPORT / FOLDER)


def _progress(stage: str, done: int, whole: int) -> None:
    complain(f"{done}/{whole} {stage}")


def _plain(made: Any) -> list[dict[str, Any]]:
    names = [column.title for column in made.columns]
    return [dict(zip(names, row, strict=True)) for row in made.rows]
