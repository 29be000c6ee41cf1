"""Which sources of operators' times are here, what each lacks, and what would help.

  plumbline sources --system H100-SXM
  plumbline predict --model llama-3-8b --system H100-SXM --source table,residual,analytic

A ladder such as table,analytic asks its sources in turn: the first that knows an operator is
believed, and every prediction says which it was.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from analyzer.basis import uncalibrated, with_sources
from analyzer.errors import InputError
from analyzer.sources.base import Source, entry, source_names
from analyzer.sources.packaged import FRAMEWORKS
from analyzer.sources.table import MeasuredTable
from analyzer.system import System
from reports.commands.options import declare_question, system_of
from reports.console import show, write, write_json


class Row(NamedTuple):
    """One source, asked about one system."""

    source: str
    about: str
    here: bool
    has: str
    """What it can answer from; where it is not here, why, and the remedy."""
    left_out: dict[str, int]


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    declare_question(parser)
    parser.add_argument("--software", default="", metavar="NAME", help="whose measured kernels")
    parser.add_argument("--scores", action="store_true", help="hold them against measurements")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """List what can be asked about a system, or score it."""
    if options.scores:
        from reports.sources_scores import scores

        named = (options.system,) if options.system else ()
        for part in scores(named):
            write(part)
        return
    if not options.system:
        options.system = "H100-SXM"
        write("no --system given: H100-SXM as an example")
    system, _ = system_of(options)
    rows = [_row(rung, system, options.software) for rung in _rungs()]
    if options.json:
        write_json({"system": system.name, "sources": [row._asdict() for row in rows]})
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=system.name, title_justify="left")
    for heading in ("source", "here", "answers from, or what is missing"):
        table.add_column(heading)
    for row in rows:
        told = Text(f"{row.about}\n{_more(row)}".strip())  # brackets in it are no markup
        table.add_row(row.source, "yes" if row.here else "no", told)
    show(table)


def _rungs() -> list[str]:
    return [*source_names(), *(f"table:{framework}" for framework in FRAMEWORKS)]


def _row(rung: str, system: System, software: str) -> Row:
    about = "" if ":" in rung else entry(rung).about
    if rung == "measured":
        return Row(rung, about, *_measured(system), {})
    try:
        held = with_sources(uncalibrated(), system, rung, software).ladder
    except InputError as error:
        return Row(rung, about, False, str(error), {})
    if held is None:
        return Row(rung, about, False, "no ladder was built", {})
    (source,) = held.sources
    has = _has(source)  # looks at all classes, and so comes before what they left out
    return Row(rung, about, True, has, dict(source.notes))


def _measured(system: System) -> tuple[bool, str]:
    from importlib.util import find_spec

    from analyzer.detect import detect_system

    if find_spec("torch") is None:
        return False, "torch is not installed; pip install plumbline[profile]"
    try:
        here = detect_system().system
    except InputError as error:
        return False, f"this machine is not recognised ({error})"
    if here.device.name != system.device.name:
        return False, f"this machine is {here.device.name}; use --system auto"
    return True, "measures what it is asked; measured:FOLDER keeps it"


def _has(source: Source) -> str:
    """Its classes of operators, where it has any."""
    if isinstance(source, MeasuredTable):
        classes = source.classes.all()
        return "; ".join(
            f"{held.op} {key[1]}{f' ({key[2]} cache)' if key[2] else ''} of {held.software}: "
            f"{len(held.cloud.values)} shapes"
            for key, held in classes.items()
        )
    fits = getattr(source, "fits", ())
    return "; ".join(
        f"{fit.op} {fit.dtype}{f' ({fit.kv_dtype} cache)' if fit.kv_dtype else ''} of "
        f"{fit.software}: {fit.held_out_form:.1%} off on unseen shapes"
        for fit in fits
    )


def _more(row: Row) -> str:
    out = "; ".join(f"{reason}: {times}" for reason, times in row.left_out.items())
    return f"{row.has}\nleft out: {out}" if out else row.has
