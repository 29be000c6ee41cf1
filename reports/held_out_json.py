"""The comparison of measured generations with predictions, for programs."""

from __future__ import annotations

from typing import Any

import numpy as np

from reports.held_out import METRICS, Array, Compared, geomean


def document(found: Compared) -> dict[str, Any]:
    """The comparison for programs."""
    scores = {
        name: {
            "cases": len(found.scored(index, fitted=False)),
            "geomean_error": _number(geomean(found.scored(index, fitted=False))),
            "fitted_models_error": _number(geomean(found.scored(index, fitted=True))),
            "noise": _number(found.noise(index)),
        }
        for index, name in enumerate(METRICS)
    }
    rows = [
        {
            "model": row.model,
            "weights": row.weights,
            "batch": row.batch,
            "input_tokens": row.input_tokens,
            "output_tokens": row.output_tokens,
            "fitted": row.fitted,
            "measured": _by_metric(row.measured),
            "predicted": _by_metric(row.predicted),
        }
        for row in found.rows
    ]
    return {
        "system": found.system,
        "calibration": found.label,
        "scores": scores,
        "rows": rows,
        "left_out": found.left_out,
        "slower_since": found.drift,
    }


def _by_metric(values: Array) -> dict[str, float | None]:
    return {name: _number(float(value)) for name, value in zip(METRICS, values, strict=True)}


def _number(value: float) -> float | None:
    return value if np.isfinite(value) else None
