"""The gate: no measured row may beat the device's peaks, no table may be another device's copy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.sources.operator_rows import OperatorRows
from analyzer.timing.kernels.common import Array, Chip

FLOPS_MARGIN = 1.03
BYTES_MARGIN = 1.05
CACHE_MULTIPLE = 4.0
"""Data beyond this many times the cache must have come from memory."""


class Gate(NamedTuple):
    """Which rows are possible, and how many were not, by reason."""

    possible: NDArray[np.bool_]
    refused: dict[str, int]


def gate(seconds: Array, flops: Array, moved_B: Array, chip: Chip) -> Gate:
    """Refuse rows that beat the arithmetic peak, or memory where no cache can explain it."""
    too_many_flops = flops / seconds > FLOPS_MARGIN * np.asarray(chip.peak_Fps)
    beyond_cache = moved_B > CACHE_MULTIPLE * np.asarray(chip.l2_B)
    too_many_bytes = beyond_cache & (moved_B / seconds > BYTES_MARGIN * np.asarray(chip.memory_Bps))
    refused = {
        "faster than the arithmetic peak": int(np.count_nonzero(too_many_flops)),
        "faster than memory": int(np.count_nonzero(too_many_bytes & ~too_many_flops)),
    }
    kept = ~(too_many_flops | too_many_bytes)
    return Gate(kept, {reason: count for reason, count in refused.items() if count})


def fingerprint(rows: OperatorRows) -> str:
    """A hash of shapes and times, without the device's name: equal for copies."""
    numbers = np.stack([*rows.numbers.values(), rows.seconds], axis=1)
    order = np.lexsort(numbers.T[::-1])
    return hashlib.sha256(np.ascontiguousarray(numbers[order]).tobytes()).hexdigest()


def copies(tables: Mapping[str, OperatorRows], least: int = 20) -> dict[str, str]:
    """Tables whose rows are those of a table before them: name to the name it is a copy of."""
    seen: dict[str, str] = {}
    found: dict[str, str] = {}
    for name, rows in tables.items():
        if len(rows) < least:
            continue
        mark = fingerprint(rows)
        if mark in seen:
            found[name] = seen[mark]
        else:
            seen[mark] = name
    return found
