"""The error report: fit everything, score it on what the fits never saw, write the pages.

plumbline validate            writes reports/validation anew
plumbline validate --check    compares the stored numbers with the calibrations and the data
plumbline validate --records plumbline-check --system auto
                              compares measured generations of a store with predictions
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from reports.console import show, write, write_json


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--out", metavar="DIR", help="folder of the report")
    parser.add_argument("--check", action="store_true", help="compare only")
    own = parser.add_argument_group("your own measurements")
    own.add_argument("--records", metavar="STORE", help="a profiler's store, or its JSON lines")
    own.add_argument("--system", default="auto", help="predicted as this system (auto)")
    own.add_argument("--doubtful", action="store_true", help="disturbed records too")
    own.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Write the report, or compare."""
    if options.records:
        compare_store(options.records, options.system, options.json, options.doubtful)
        return
    from reports.validate.command import FOLDER, ValidateOptions, run_validate

    folder = Path(options.out) if options.out else FOLDER
    for line in run_validate(ValidateOptions(folder=folder, check=options.check)):
        write(line)


def compare_store(store: str, system: str, as_json: bool, doubtful: bool) -> None:
    """Predict what a store's generations measured, and show how far off that is."""
    from reports.commands.calibrate import read_records
    from reports.commands.options import system_called
    from reports.held_out import compare, lines
    from reports.held_out_json import document

    named, _ = system_called(system)
    found = compare(read_records(Path(store)), named, system, doubtful)
    if as_json:
        write_json(document(found))
    else:
        show(*lines(found))
