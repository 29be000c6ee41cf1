"""The validation report: how far predictions are from everything that was measured.

In:  fits and held-out predictions (`calibration.run.Everything`), measured memory, and what
     peers predicted.
Out: reports/validation: README.md and pages beside it, SVG figures, one self-contained index.html,
     and numbers.json, from which `check` tells whether code and data still say the same.
`write_report` writes it from what was fitted, `regenerate` fits everything first, `run_validate`
is what the command line calls.
"""

from reports.validate.command import ValidateOptions, regenerate, run_validate
from reports.validate.drift import check
from reports.validate.write import write_report

__all__ = ["ValidateOptions", "check", "regenerate", "run_validate", "write_report"]
