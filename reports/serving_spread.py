"""Beyond medians: means, 99th percentiles, and single requests, measured and simulated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from analyzer.serving import SimResult
from profilers.serving import ServeRun

LEAST_FOR_TAIL = 100
"""Requests from which on a 99th percentile is shown; of so few it is one or two requests."""


class Spread(NamedTuple):
    """Errors of one figure over all rounds of one rate: simulated over measured, less one."""

    run: str
    metric: str
    requests: int
    mean: float
    p99: float | None
    each: float
    """Median over the requests of how far each one's own figure is off."""


def spread(name: str, runs: Sequence[ServeRun], simulated: Sequence[SimResult]) -> list[Spread]:
    """Every figure of the requests that succeeded, paired one by one with the simulated ones."""
    pairs: dict[str, list[tuple[float, float]]] = {"ttft_s": [], "tpot_s": [], "e2e_s": []}
    for run, result in zip(runs, simulated, strict=True):
        times = {each.number: each for each in result.request_times if not each.refused}
        for outcome in run.log.outcomes:
            ours = times.get(outcome.number)
            first_s = outcome.ttft_s()
            if not outcome.ok or ours is None or first_s is None:
                continue
            pairs["ttft_s"].append((first_s, ours.ttft_s))
            pairs["e2e_s"].append((outcome.end_s - outcome.scheduled_s, ours.e2e_s))
            if outcome.tpot_s and ours.tpot_s is not None:
                pairs["tpot_s"].append((outcome.tpot_s, ours.tpot_s))
    return [_of(name, metric, np.array(found)) for metric, found in pairs.items() if found]


def _of(name: str, metric: str, found: np.ndarray) -> Spread:
    real, ours = found[:, 0], found[:, 1]
    tail = None
    if len(found) >= LEAST_FOR_TAIL:
        tail = float(np.percentile(ours, 99) / np.percentile(real, 99) - 1.0)
    return Spread(
        run=name,
        metric=metric,
        requests=len(found),
        mean=float(ours.mean() / real.mean() - 1.0),
        p99=tail,
        each=float(np.median(np.abs(ours / real - 1.0))),
    )


def spread_lines(found: Sequence[Spread]) -> list[str]:
    """A table; nothing in it is judged."""
    lines = [f"{'run':<12}{'figure':<10}{'requests':>10}{'mean':>9}{'p99':>9}{'each':>9}"]
    for row in found:
        tail = "-" if row.p99 is None else f"{row.p99:+.1%}"
        lines.append(
            f"{row.run:<12}{row.metric:<10}{row.requests:>10}{row.mean:>+9.1%}{tail:>9}"
            f"{row.each:>9.1%}"
        )
    return lines
