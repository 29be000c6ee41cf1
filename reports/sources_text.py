"""Sources for people: who timed what, what fell back and why, what was left out beforehand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from rich.text import Text

from analyzer.answer import Answer
from analyzer.sources.base import Ladder
from analyzer.sources.credit import Credit

_MOST = 6
"""Reasons that are listed one by one."""


def credits(found: Answer) -> Iterator[Text]:
    """The sources' part of a summary."""
    ladder = found.basis.ladder
    if ladder is None:
        return
    for phase, held in zip(("Prefill", "Decoding"), found.credits(), strict=True):
        yield Text(f"{phase}: {shares(held)}.")
        for name, reasons in held.remarks.items():
            yield Text(f"  {name}: {listed(reasons)}.", style="dim")
    for line in left_out(ladder):
        yield Text(line, style="dim")
    yield Text(
        "Note: the interval follows from the sources' own uncertainties of operators; the host is "
        "taken as exact, and no served model was held against it.",
        style="yellow",
    )


def shares(held: Credit) -> str:
    """Share of the operators' time that each source stands for, and how many it answered."""
    parts = [
        f"{name} {float(np.mean(share)):.0%} of the operators' time ({held.answered[name]} answers)"
        for name, share in held.shares.items()
    ]
    return ", ".join(parts)


def listed(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda item: -item[1])
    shown = [f"{reason} ({times})" for reason, times in ordered[:_MOST]]
    return "; ".join(shown) + (f"; and {len(ordered) - _MOST} more" if len(ordered) > _MOST else "")


def left_out(ladder: Ladder) -> Iterator[str]:
    """What sources did not take in when they were built."""
    for source in ladder.sources:
        if source.notes:
            yield f"Left out of {source.name}: {listed(source.notes)}."
