"""Do the stored numbers still follow from the shipped calibrations and the data? Cheap to ask.

The in-sample errors of every (system, engine) are worked out anew with the shipped rates, and the
hashes of the rows are compared. Fits are not repeated: that is what `plumbline validate` does.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from analyzer.calibrated import FOLDER as RATES
from analyzer.calibrated import Calibration
from analyzer.errors import CalibrationError, DataError
from analyzer.strict import decode_toml
from calibration.collect import Group, collect
from calibration.corpus import PERF_DIR, load_corpus
from calibration.export import digest
from calibration.holdout import geomean_error
from calibration.problem import METRICS, predict

TOLERANCE = 0.01
"""Largest change of an error, as a share of it, that rounding of shipped rates excuses."""
ROUNDING = 5e-4
"""And in absolute terms, for errors near zero."""
REMEDY = "run `plumbline calibrate --all`, then `plumbline validate`"


def check(folder: Path, data: Path = PERF_DIR, rates: Path = RATES) -> list[str]:
    """Lines to print where all agrees; raises CalibrationError naming what has drifted."""
    stored = _stored(folder / "numbers.json")
    groups = collect(load_corpus(data).records).groups
    found = {"/".join(key): group for key, group in groups.items()}
    drifted = [f"{name}: measured, but not in the report" for name in sorted(found.keys() - stored)]
    drifted += [
        f"{name}: in the report, but not measured" for name in sorted(stored.keys() - found)
    ]
    for name in sorted(stored.keys() & found.keys()):
        drifted += _compare(name, stored[name], found[name], rates)
    if drifted:
        shown = "; ".join(drifted[:8]) + ("; ..." if len(drifted) > 8 else "")
        raise CalibrationError(f"{folder}: {len(drifted)} figures have drifted: {shown}. {REMEDY}")
    return [f"{len(stored)} groups agree with the shipped calibrations and the data"]


def _stored(path: Path) -> dict[str, dict[str, Any]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; {REMEDY}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{path}: not JSON at line {error.lineno}; {REMEDY}") from None
    groups: dict[str, dict[str, Any]] = document["groups"]
    return groups


def _compare(name: str, stored: dict[str, Any], group: Group, rates: Path) -> list[str]:
    now = digest(group.records)
    if now != stored["data_sha256"]:
        return [f"{name}: other rows than in the report"]
    path = rates / f"{group.system.name}__{group.engine}.toml"
    if not path.is_file():
        return [f"{name}: no shipped calibration"]
    shipped = decode_toml(path, Calibration)
    if shipped.data_sha256 != now:
        return [f"{name}: the shipped calibration is of other rows"]
    predicted = predict(group.problem, shipped.to_rates())
    drifted = []
    for index, metric in enumerate(METRICS):
        error = geomean_error(predicted[:, index], group.problem.observed[:, index])
        before = stored["in_sample"][metric]
        if not _alike(error, before):
            drifted.append(f"{name} {metric}: {error:.4f}, reported {before}")
    return drifted


def _alike(error: float, before: float | None) -> bool:
    if before is None or math.isnan(error):
        return before is None and math.isnan(error)
    return abs(error - before) <= max(TOLERANCE * abs(before), ROUNDING)
