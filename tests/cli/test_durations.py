"""Durations as people write them."""

from __future__ import annotations

import pytest

from analyzer.errors import ConfigError
from reports.durations import seconds, shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [("10m", 600.0), ("90s", 90.0), ("1h", 3600.0), ("1h30m", 5400.0), ("600", 600.0),
     ("1.5h", 5400.0), ("2m30s", 150.0), (" 10 M ", 600.0)],
)  # fmt: skip
def test_durations(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "ten", "10x", "m", "-5", "0", "0s", "nan", "inf", "5m3"])
def test_what_is_no_duration_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="duration"):
        seconds(text)


@pytest.mark.parametrize(
    ("duration_s", "words"),
    [(45.2, "45 s"), (600.0, "10 min"), (5400.0, "1 h 30 min"), (7200.0, "2 h"), (3599.0, "1 h")],
)
def test_shown_in_words(duration_s: float, words: str) -> None:
    assert shown(duration_s) == words
