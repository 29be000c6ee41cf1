"""The points of the error report, packed for the static page: names once, rows as their numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.web import validated


def validation(points: validated.Points | None = None) -> dict[str, Any]:
    """What static/site_validation.js draws from."""
    held = validated.load() if points is None else points
    return {
        "texts": {name: _packed(held.texts[name]) for name in validated.TEXTS},
        "numbers": {name: [_number(v) for v in held.numbers[name]] for name in validated.NUMBERS},
        "metrics": validated.METRICS,
        "ways": validated.WAYS,
        "loads": validated.LOADS,
        "definitions": validated.DEFINITIONS,
    }


def _packed(values: validated.Texts) -> dict[str, Any]:
    names, codes = np.unique(values, return_inverse=True)
    return {"names": names.tolist(), "codes": codes.tolist()}


def _number(value: float) -> float | int | None:
    if not np.isfinite(value):
        return None
    return int(value) if float(value).is_integer() else float(value)
