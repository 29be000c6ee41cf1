"""Rows that are one measurement, given several times or under several names."""

from __future__ import annotations

from calibration.architecture import architecture
from calibration.problem import Case

REPEATED = "repeats another row's layout, load and figures to the last digit: counted once"
DIGITS = 12
"""Digits that repeats share; the last ones differ between copies of one measurement."""


def repeats(cases: list[Case]) -> list[bool]:
    """Which cases repeat one before them, be it under another name of the same architecture."""
    seen: set[tuple[object, ...]] = set()
    found = []
    for case in cases:
        figures = tuple(f"{time_s:.{DIGITS}g}" for time_s in case.observed)
        key = (architecture(case.model), case.plan, case.workload, figures)
        found.append(case.looped and key in seen)
        seen.add(key)
    return found
