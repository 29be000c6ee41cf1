"""The error report: fit everything, score it on what the fits never saw, write the pages.

plumbline validate            writes reports/validation anew
plumbline validate --check    compares the stored numbers with the calibrations and the data
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from reports.console import write


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--out", metavar="DIR", help="folder of the report")
    parser.add_argument("--check", action="store_true", help="compare only")


def run(options: Namespace) -> None:
    """Write the report, or compare."""
    from reports.validate.command import FOLDER, ValidateOptions, run_validate

    folder = Path(options.out) if options.out else FOLDER
    for line in run_validate(ValidateOptions(folder=folder, check=options.check)):
        write(line)
