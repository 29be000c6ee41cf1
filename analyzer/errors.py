"""Everything that can go wrong, on one page.

PlumblineError
├── InputError             the user's own mistake: one line, exit code 2, never a traceback
│   ├── ConfigError        a bad value or an unknown key in a model, system, plan or workload
│   ├── DataError          a bad table: names file, row and column
│   └── CapacityError      the scenario is legal but does not fit the machine
├── ProfilerError          a measurement failed
│   ├── CaseTimeout        a case ran past its limit
│   └── ServerFailed       the server under test refused, died or lied
└── CalibrationError       a fit cannot be made from these data
    ├── TooFewGroups       not enough models or lengths to hold any out
    └── NotIdentifiable    the data do not determine a parameter
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class PlumblineError(Exception):
    """Base of every error that Plumbline raises on purpose."""


class InputError(PlumblineError):
    """What the user asked for cannot be done as asked."""


class ConfigError(InputError):
    """A model, system, plan or workload says something impossible or unknown."""


class DataError(InputError):
    """A data file is not what it should be."""


class CapacityError(InputError):
    """The scenario needs more memory than the machine has."""


class ProfilerError(PlumblineError):
    """A measurement could not be taken."""


class CaseTimeout(ProfilerError):
    """A measured case ran past its time limit."""


class ServerFailed(ProfilerError):
    """The server under test refused, died or answered nonsense."""


class CalibrationError(PlumblineError):
    """A fit cannot be made from these data."""


class TooFewGroups(CalibrationError):
    """There are not enough groups to hold one out."""


class NotIdentifiable(CalibrationError):
    """The data do not determine what was asked for."""


def nearest(name: str, known: Iterable[str], limit: int = 3) -> str:
    """Say what `name` may have meant: ' (did you mean a, b?)' or ''."""
    by_folded = {candidate.lower(): candidate for candidate in known}
    hits = difflib.get_close_matches(name.lower(), by_folded, n=limit, cutoff=0.5)
    return f" (did you mean {', '.join(by_folded[hit] for hit in hits)}?)" if hits else ""
