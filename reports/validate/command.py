"""What the command line calls."""

from __future__ import annotations

from pathlib import Path

import msgspec

from calibration.corpus import PERF_DIR, load_corpus
from calibration.rounds import Progress
from calibration.run import Everything, calibrate_all
from reports.validate import front
from reports.validate.drift import check
from reports.validate.write import write_report

FOLDER = Path(__file__).resolve().parents[1] / "validation"
README = FOLDER.parents[1] / "README.md"


class ValidateOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to validate, where to put it, or whether only to compare."""

    folder: Path = FOLDER
    data: Path = PERF_DIR
    check: bool = False
    """Only compare the stored numbers with the shipped calibrations and the data."""


def run_validate(options: ValidateOptions, progress: Progress | None = None) -> list[str]:
    """Write the report, or check the stored one; returns the lines to print."""
    if options.check:
        return check(options.folder, options.data)
    found = calibrate_all(load_corpus(options.data).records, progress)
    lines = [f"wrote {path}" for path in write_report(found, options.folder)]
    if options.folder == FOLDER:
        front.update(README, FOLDER / "numbers.json")
    return lines


def regenerate(found: Everything | None = None, folder: Path = FOLDER) -> list[Path]:
    """The report from a calibration that is at hand, or from a new one."""
    return write_report(calibrate_all() if found is None else found, folder)
