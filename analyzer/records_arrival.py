"""How requests arrive, from the words that sources use to a small closed set."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from analyzer.errors import DataError, nearest

ArrivalKind = Literal[
    "single",
    "static",
    "closed_loop",
    "offline",
    "poisson",
    "constant",
    "burst",
    "trace",
    "unstated",
]
FIXED_BATCHES: frozenset[str] = frozenset({"single", "static"})
"""Kinds where all sequences start together and none joins: no queue, no scheduler."""


class Arrival(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """How requests reach the engine."""

    kind: ArrivalKind
    text: str = ""
    """The source's own words."""
    rate_per_s: float | None = None
    """Requests per second, where the kind has a rate."""

    @property
    def is_fixed_batch(self) -> bool:
        """True for a lone request or a static batch."""
        return self.kind in FIXED_BATCHES


_BEGINNINGS: tuple[tuple[str, ArrivalKind], ...] = (
    ("single", "single"),
    ("static", "static"),
    ("closed loop", "closed_loop"),
    ("concurrency", "closed_loop"),
    ("concurrent", "closed_loop"),
    ("max concurrency", "closed_loop"),
    ("offline", "offline"),
    ("mlperf offline", "offline"),
    ("poisson", "poisson"),
    ("mlperf server", "poisson"),
    ("server", "poisson"),
    ("open loop", "poisson"),
    ("request rate", "poisson"),
    ("rate", "poisson"),
    ("qps", "poisson"),
    ("rps", "poisson"),
    ("constant", "constant"),
    ("fixed rate", "constant"),
    ("uniform", "constant"),
    ("all requests at once", "burst"),
    ("all at once", "burst"),
    ("burst", "burst"),
    ("trace", "trace"),
    ("unstated", "unstated"),
)
RATED: frozenset[str] = frozenset({"poisson", "constant", "trace"})
"""Kinds that have a rate."""
_NUMBER = r"\d+(?:\.\d+)?"
_RATE = re.compile(
    rf"(?:rate|qps|rps)\D{{0,3}}({_NUMBER})"
    rf"|^poisson\W{{0,3}}({_NUMBER})(?![\d.]|\s*(?:requests|prompts)\b)"
    rf"|({_NUMBER})\s*(?:req|requests?|queries)?\s?(?:/|per )\s?s(?:ec|econd)?\b"
    rf"|({_NUMBER})\s*(?:qps|rps)\b",
    re.ASCII,
)
_BARE_RATE = re.compile(rf"{_NUMBER}\s*(?:qps|rps|req\w*\s?(?:/|per )\s?s)", re.ASCII)
"""A rate and nothing before it, which says no more than how many come."""
_ENDLESS_RATE = re.compile(r"(?:rate|qps|rps)\W{0,3}inf", re.ASCII)
_COUNT = re.compile(
    rf"concurrency\W{{0,3}}({_NUMBER})|\b({_NUMBER})\s(?:requests|prompts|in flight)\b", re.ASCII
)


def parse_arrival(text: str) -> Arrival:
    """Read a source's words; raises DataError when they begin like nothing known."""
    folded = _folded(text)
    for beginning, kind in _BEGINNINGS:
        if folded.startswith(beginning):
            return _arrival(text, folded, kind)
    if _BARE_RATE.match(folded):
        return _arrival(text, folded, "poisson")
    known = [beginning for beginning, _ in _BEGINNINGS]
    raise DataError(
        f"arrival '{text}' is not known{nearest(folded, known)}; "
        f"begin it with one of: {', '.join(known)}"
    )


def _arrival(text: str, folded: str, kind: ArrivalKind) -> Arrival:
    """A kind with its rate, where stated; an infinite rate is all at once."""
    if kind in RATED and _ENDLESS_RATE.search(folded):
        return Arrival(kind="burst", text=text)
    rate = _first(_RATE, folded) if kind in RATED else None
    return Arrival(kind=kind, text=text, rate_per_s=rate)


def stated_count(arrival: Arrival) -> float | None:
    """Requests at once or in all, where the words of an arrival themselves say how many."""
    return None if arrival.is_fixed_batch else _first(_COUNT, _folded(arrival.text))


def _folded(text: str) -> str:
    return re.sub(r"[\s_-]+", " ", text).strip().lower()


def _first(pattern: re.Pattern[str], folded: str) -> float | None:
    """The first group of the pattern that matched, as a number."""
    found = pattern.search(folded)
    if found is None:
        return None
    return float(next(group for group in found.groups() if group is not None))
