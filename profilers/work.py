"""One operator ready to run, with what it must compute and move at the least."""

from __future__ import annotations

from dataclasses import dataclass, field

from analyzer.records import Scalar
from profilers.device import Call


@dataclass(frozen=True, kw_only=True)
class Work:
    """A call and its counted work. Multiply-adds count two; bytes are each read or written once."""

    run: Call
    flops: float = 0.0
    moved_B: float = 0.0
    notes: dict[str, Scalar] = field(default_factory=dict)
