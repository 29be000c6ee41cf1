"""Every example runs, says something, and is short enough to read."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LONGEST = 40
"""Lines."""


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(path)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) >= 4
    assert "nan" not in done.stdout.lower()


def test_examples_are_short_and_say_how_to_run_them() -> None:
    assert len(EXAMPLES) >= 7
    for path in EXAMPLES:
        text = path.read_text("utf-8")
        assert text.count("\n") <= LONGEST, path.name
        assert f"python examples/{path.name}" in text
