"""A finished fit as a calibration file, written whole or not at all."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from analyzer.calibrated import Band, Calibration, FittedRate, Hull, Score
from analyzer.records import Record
from analyzer.records_codec import record_id
from analyzer.timing.rates import Rates
from calibration.collect import Group
from calibration.fit import Fit
from calibration.holdout import bias, geomean_error
from calibration.parameters import LINEAR
from calibration.problem import METRICS, Problem, predict

Array = NDArray[np.float64]

IDENTIFIED_SHARE = 0.5
"""A rate of which the data decided less than this is called not identified."""
Z90 = 1.6449


def calibration(
    group: Group, fit: Fit, held_out: Array, bands: Sequence[Band], command: str
) -> Calibration:
    """Everything that is known of one (system, engine)."""
    return Calibration(
        system=group.system.name,
        engine=group.engine,
        rows=len(group.records),
        models=len(set(group.problem.groups)),
        rates=fitted_rates(fit),
        bands=tuple(bands),
        scores=scores(group.problem, predict(group.problem, fit.rates), held_out),
        hull=hull(group),
        system_eff=single_efficiencies(group.problem),
        condition=rounded(fit.condition),
        data_sha256=digest(group.records),
        command=command,
    )


def fitted_rates(fit: Fit) -> dict[str, FittedRate]:
    """Values with their 90 % intervals and how much of them the data decided."""
    rates = {}
    rows = zip(fit.priors, fit.point, fit.deviation, fit.data_share, fit.at_bound, strict=True)
    for entry, point, deviation, share, bound in rows:
        low, high = point - Z90 * deviation, point + Z90 * deviation
        if entry.name not in LINEAR:
            low, high = np.exp(low), np.exp(high)
        rates[entry.name] = FittedRate(
            value=rounded(getattr(fit.rates, entry.name)),
            low=rounded(low),
            high=rounded(high),
            data_share=round(float(share), 3),
            identified=bool(share >= IDENTIFIED_SHARE and not bound),
            at_bound=bool(bound),
        )
    return rates


def scores(problem: Problem, in_sample: Array, held_out: Array) -> tuple[Score, ...]:
    """Errors per metric, in-sample never without held-out beside it."""
    made = []
    for index, metric in enumerate(METRICS):
        measured = problem.observed[:, index]
        rows = int(np.isfinite(measured).sum())
        if not rows:
            continue
        able = bool(np.isfinite(held_out[:, index]).any())
        made.append(
            Score(
                metric=metric,
                rows=rows,
                models=len(set(problem.groups[np.isfinite(measured)])),
                in_sample=round(geomean_error(in_sample[:, index], measured), 4),
                held_out=round(geomean_error(held_out[:, index], measured), 4) if able else None,
                bias=round(bias(held_out[:, index], measured), 4) if able else None,
            )
        )
    return tuple(made)


def hull(group: Group) -> Hull:
    """Ranges of what was measured."""
    cases = group.problem.cases
    loads = [case.workload for case in cases]
    arrivals = {r.scenario.arrival.kind for r in group.records if r.scenario.arrival is not None}
    return Hull(
        batch=_range(load.batch for load in loads),
        input_tokens=_range(load.input_tokens for load in loads),
        output_tokens=_range(load.output_tokens for load in loads),
        devices=(
            min(int(case.plan.devices) for case in cases),
            max(int(case.plan.devices) for case in cases),
        ),
        weights=tuple(sorted({case.plan.weights for case in cases})),
        arrivals=tuple(sorted(arrivals)),
        models=tuple(sorted({case.model.name for case in cases})),
    )


def single_efficiencies(problem: Problem) -> dict[str, float]:
    """The best single efficiency, as tools that know no more than one would need it."""
    columns = {"overall": [0, 1, 2], "prefill": [0], "decode": [1]}
    found = {}
    for name, chosen in columns.items():
        measured = problem.observed[:, chosen]
        if np.isfinite(measured).any():
            found[name] = round(best_single(problem, chosen), 4)
    return found


def best_single(
    problem: Problem, metrics: Sequence[int] = (0, 1, 2), rows: NDArray[np.bool_] | None = None
) -> float:
    """The one efficiency in 0..1 with the least mean |ln(predicted/measured)|."""
    chosen = np.ones(len(problem.cases), dtype=bool) if rows is None else rows
    measured = problem.observed[chosen][:, list(metrics)]

    def error(efficiency: float) -> float:
        predicted = predict(problem, Rates.single(efficiency))[chosen][:, list(metrics)]
        return geomean_error(predicted, measured)

    return float(minimize_scalar(error, bounds=(0.01, 1.0), method="bounded").x)


def digest(records: Iterable[Record]) -> str:
    """Hash of the records that went in, whatever their order."""
    joined = "\n".join(sorted(record_id(record) for record in records))
    return hashlib.sha256(joined.encode()).hexdigest()


def write(found: Calibration, folder: Path) -> Path:
    """Write `<system>__<engine>.toml` into the folder, atomically; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{found.system}__{found.engine}.toml"
    text = to_toml(found)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=path.name, suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


def to_toml(found: Calibration) -> str:
    """The calibration as TOML that diffs well: one rate, band or score per line."""
    plain = msgspec.to_builtins(found)
    lines = [
        f"{key} = {_value(value)}"
        for key, value in plain.items()
        if value is not None and not isinstance(value, dict | list | tuple)
    ]
    for key in ("bands", "scores"):
        rows = ",\n".join(f"  {_inline(row)}" for row in plain[key])
        lines.append(f"{key} = [\n{rows}\n]" if rows else f"{key} = []")
    for key in ("system_eff", "pace", "hull"):
        if plain[key]:
            lines.append(f"\n[{key}]")
            lines += [f"{name} = {_value(value)}" for name, value in plain[key].items()]
    lines.append("\n[rates]")
    lines += [f"{name} = {_inline(rate)}" for name, rate in plain["rates"].items()]
    return "\n".join(lines) + "\n"


def _inline(table: dict[str, object]) -> str:
    inner = ", ".join(f"{k} = {_value(v)}" for k, v in table.items() if v is not None)
    return f"{{ {inner} }}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(entry) for entry in value)}]"
    if isinstance(value, float | int):
        return repr(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def rounded(value: object) -> float:
    """Five significant digits: more would pretend, and drift between machines."""
    return float(f"{float(value):.5g}")  # type: ignore[arg-type]


def _range(values: Iterable[object]) -> tuple[float, float]:
    numbers = [float(value) for value in values]  # type: ignore[arg-type]
    return min(numbers), max(numbers)
