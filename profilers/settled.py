"""Which cases of a store need no measuring any more."""

from __future__ import annotations

from typing import Any

from profilers.options import Options
from profilers.store import Store

VERDICTS = frozenset({"noisy", "short", "throttled"})
"""Doubts that measuring anew may lift."""


def settled(store: Store, options: Options) -> frozenset[str]:
    """Cases with an answer: failures too unless told otherwise, doubtful ones too unless told."""
    if not (options.retry_failed or options.retry_noisy):
        return store.done
    latest = {entry.case: entry.decode() for entry in store.contents.entries}
    return frozenset(case for case, held in latest.items() if not _again(held, options))


def _again(held: dict[str, Any], options: Options) -> bool:
    if not held.get("metrics"):
        return options.retry_failed
    return options.retry_noisy and any(flag["code"] in VERDICTS for flag in held.get("flags", ()))
