"""`python -m reports.validate`: fit everything and write the report; `--check`: compare only."""

from __future__ import annotations

import sys
from pathlib import Path

from reports.validate.command import FOLDER, ValidateOptions, run_validate

if __name__ == "__main__":
    words = sys.argv[1:]
    paths = [word for word in words if not word.startswith("-")]
    folder = Path(paths[0]) if paths else FOLDER
    for line in run_validate(ValidateOptions(folder=folder, check="--check" in words)):
        sys.stdout.write(f"{line}\n")
