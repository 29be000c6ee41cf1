"""Rows that are one measurement, given several times or under several names."""

from __future__ import annotations

from calibration.architecture import architecture
from calibration.problem import Case

REPEATED = "repeats another row's layout, load and figures to the last digit: counted once"


def repeats(cases: list[Case]) -> list[bool]:
    """Which cases repeat one before them, be it under another name of the same architecture."""
    seen: set[tuple[object, ...]] = set()
    found = []
    for case in cases:
        key = (architecture(case.model), case.plan, case.workload, repr(case.observed))
        found.append(case.looped and key in seen)
        seen.add(key)
    return found
