"""What `plumbline calibrate --system X` prints: how good the fit is before what it found."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.text import Text

from analyzer.calibrated import Calibration
from analyzer.timing.rates import PARAMETERS
from calibration.collect import LeftOut
from calibration.findings import Baseline, baselines, beyond_belief, confusions, reasons, unknowns
from calibration.problem import METRICS
from calibration.run import Outcome
from reports.table import table

GEOMEAN = "error: exp(mean |ln(predicted/measured)|) − 1; held out: no row of that model was fitted"
MOST_REASONS = 8
_SHORT = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}
_EFFECTS = {
    "overall": "all metrics",
    "prefill": "TTFT alone",
    "decode": "TPOT alone",
}


def opening(system: str, used: int, left_out: Sequence[LeftOut]) -> Iterator[Any]:
    """How many rows went in, how many did not, and why."""
    yield Text(f"{system}: {used} rows used, {len(left_out)} left out", style="bold")
    counted = reasons(left_out)
    for reason, count in counted[:MOST_REASONS]:
        yield Text(f"  {count:>5}  {reason}", style="dim")
    rest = sum(count for _, count in counted[MOST_REASONS:])
    if rest:
        yield Text(f"  {rest:>5}  for {len(counted) - MOST_REASONS} other reasons", style="dim")


def section(done: Outcome, written: Path | None) -> Iterator[Any]:
    """One engine, top to bottom."""
    found, fitted = done.calibration, done.fitted
    problem = done.group.problem
    yield Text()
    yield Text(
        f"{found.engine} on {found.system}: {found.rows} rows of {found.models} models",
        style="bold",
    )
    yield _errors(baselines(problem, fitted.fit, fitted.held_out.predicted))
    yield Text(GEOMEAN, style="dim")
    if found.models < 2:
        yield Text(
            "Held-out errors need a second model: measure any other one at the same lengths.",
            style="yellow",
        )
    yield _bands(found)
    yield _rates(found)
    yield from _doubts(done)
    yield Text(_single(found))
    if written is not None:
        yield Text(f"Written to {written}")


def _errors(ways: Sequence[Baseline]) -> Any:
    columns = ["errors"]
    shown = [i for i in range(len(METRICS)) if any(math.isfinite(w.geomean[i]) for w in ways)]
    for index in shown:
        name = _SHORT[METRICS[index]]
        columns += [name, f"{name} MAPE"]
    rows = []
    for way in ways:
        cells = [way.name]
        for index in shown:
            cells += [_percent(way.geomean[index]), _percent(way.mape[index])]
        rows.append(cells)
    return table(columns, rows, left=("errors",))


def _percent(share: float | None) -> str:
    if share is None or not math.isfinite(share):
        return "-"
    return f"{share:.2%}" if share < 0.1 else f"{share:.1%}"


def _bands(found: Calibration) -> Any:
    rows = [
        (
            _SHORT.get(band.metric, band.metric),
            f"{band.low - 1:+.0%} to {band.high - 1:+.0%}",
            f"{band.level:.0%}",
            f"{band.coverage:.0%}",
            str(band.groups),
            "seen" if band.seen else "unseen",
        )
        for band in found.bands
    ]
    heading = "measured around predicted"
    columns = ("", heading, "level", "coverage measured", "groups behind it", "model")
    return table(columns, rows, left=("",))


def _rates(found: Calibration) -> Any:
    rows = [
        (
            name,
            f"{rate.value:.4g}",
            f"{rate.low:.3g} to {rate.high:.3g}",
            f"{rate.data_share:.0%}",
            "yes" if rate.identified else ("AT BOUND" if rate.at_bound else "prior"),
            escape(f"{PARAMETERS[name].meaning} ({PARAMETERS[name].unit})"),
        )
        for name, rate in found.rates.items()
    ]
    columns = ("rate", "value", "90 % interval", "from data", "identified", "meaning")
    return table(columns, rows, left=("rate", "identified", "meaning"))


def _doubts(done: Outcome) -> Iterator[Any]:
    fit = done.fitted.fit
    bound = beyond_belief(fit)
    if bound:
        yield Text(
            f"Against the limit of what hardware can do: {', '.join(bound)}. Counts, peaks or data "
            "are wrong there, or another rate takes its place; do not read the value as a fact.",
            style="yellow",
        )
    yield Text(_condition(fit.condition))
    for pair in confusions(done.group.problem, fit):
        kind = "opposite" if pair.correlation < 0 else "same"
        yield Text(
            f"  hardly told apart: {pair.first} and {pair.second} "
            f"(moving both in the {kind} direction leaves every row as it is)"
        )
    unknown = unknowns(fit)
    if unknown:
        yield Text("The data cannot tell, so the prior decides:")
        rows = [(one.name, f"{one.data_share:.0%}", one.supplied_by) for one in unknown]
        yield table(("rate", "from data", "what would tell it"), rows,
                    left=("rate", "what would tell it"))  # fmt: skip


def _condition(condition: float) -> str:
    if not math.isfinite(condition) or condition > 1e8:
        words = "some rates do not touch any of these rows at all"
    elif condition > 1e3:
        words = "some combinations of rates hardly touch these rows"
    else:
        words = "every rate shows in these rows"
    return f"Condition of the data's Jacobian {condition:.2g}: {words}."


def _single(found: Calibration) -> str:
    named = ", ".join(
        f"{_EFFECTS.get(name, name)} {value:.3f}" for name, value in found.system_eff.items()
    )
    return f"Best single system_eff, for tools that know no more: {named}"


def as_document(done: Outcome, written: Path | None) -> dict[str, Any]:
    """One engine for programs."""
    import msgspec

    fit = done.fitted.fit
    ways = baselines(done.group.problem, fit, done.fitted.held_out.predicted)
    return {
        **msgspec.to_builtins(done.calibration),
        "errors": {
            way.name: {
                name: dict(zip(METRICS, getattr(way, name), strict=True))
                for name in ("geomean", "mape", "bias")
            }
            for way in ways
        },
        "not_identified": [one._asdict() for one in unknowns(fit)],
        "not_told_apart": [one._asdict() for one in confusions(done.group.problem, fit)],
        "written_to": None if written is None else str(written),
    }
