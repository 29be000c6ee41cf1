"""Run the command line inside the test's process and keep what it says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from plumbline import main


class Said(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The JSON document on the last line."""
        return json.loads(self.out.splitlines()[-1])


Shell = Callable[..., Said]


def shell(capsys: pytest.CaptureFixture[str]) -> Shell:
    """A function that runs words as `plumbline` would."""

    def run(*words: str) -> Said:
        code = main([part for word in words for part in word.split()])
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return run
