"""How requests arrive, from the words that sources use to a small closed set."""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from analyzer.errors import DataError, nearest

ArrivalKind = Literal[
    "single", "static", "closed_loop", "offline", "poisson", "burst", "trace", "unstated"
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
    ("offline", "offline"),
    ("mlperf offline", "offline"),
    ("mlperf server", "poisson"),
    ("server", "poisson"),
    ("poisson", "poisson"),
    ("all requests at once", "burst"),
    ("all at once", "burst"),
    ("burst", "burst"),
    ("trace", "trace"),
    ("unstated", "unstated"),
)
_RATE = re.compile(r"(?:rate|qps)\D{0,3}([\d.]+)|([\d.]+)\s*(?:req/s|requests?/s|qps)", re.ASCII)


def parse_arrival(text: str) -> Arrival:
    """Read a source's words; raises DataError when they begin like nothing known."""
    folded = re.sub(r"[\s_-]+", " ", text).strip().lower()
    for beginning, kind in _BEGINNINGS:
        if folded.startswith(beginning):
            return Arrival(kind=kind, text=text, rate_per_s=_rate(folded, kind))
    known = [beginning for beginning, _ in _BEGINNINGS]
    raise DataError(
        f"arrival '{text}' is not known{nearest(folded, known)}; "
        f"begin it with one of: {', '.join(known)}"
    )


def _rate(folded: str, kind: ArrivalKind) -> float | None:
    found = _RATE.search(folded) if kind == "poisson" else None
    if found is None:
        return None
    try:
        return float(found.group(1) or found.group(2))
    except ValueError:
        return None
