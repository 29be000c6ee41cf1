"""Every measured row beside what each way of predicting says of it.

This is what a validation report is made of: one entry per (system, engine), with one array of
predictions per way, all of the shape of the measured times and NaN where a way has no answer.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.fit import Fit
from calibration.holdout import RANGES, leave_range_out
from calibration.nearest import nearest
from calibration.one_factor import OneFactor
from calibration.problem import Problem, predict
from calibration.run import Everything

Array = NDArray[np.float64]

IDEAL, DEFAULT = "ideal", "default 0.6"
FACTOR, FACTOR_OUT = "one factor", "one factor, model held out"
COPIED, SCALED = "nearest row, model held out", "nearest row scaled, model held out"
OURS, OURS_OUT = "ours, in-sample", "ours, model held out"
UNSEEN = "ours, system unseen"
DEFAULT_EFFICIENCY = 0.6


class Scored(NamedTuple):
    """One (system, engine): its measurements and every way's predictions of them."""

    key: Key
    group: Group
    predicted: dict[str, Array]

    @property
    def measured(self) -> Array:
        """ttft_s, tpot_s, e2e_s of every row; NaN where not measured."""
        return self.group.problem.observed

    @property
    def models(self) -> NDArray[np.str_]:
        """The model of every row."""
        return self.group.problem.groups

    @property
    def looped(self) -> NDArray[np.bool_]:
        """Rows of serving, as against fixed batches."""
        return np.array([case.looped for case in self.group.problem.cases])

    @property
    def queued(self) -> NDArray[np.bool_]:
        """Rows of offline throughput: more requests wait than can run."""
        return np.array([case.queued for case in self.group.problem.cases])


def score_all(found: Everything, ranges: bool = True) -> list[Scored]:
    """Score every (system, engine); `ranges` adds a fit per range left out."""
    beyond = ranges_out(found) if ranges else {}
    return [
        Scored(key, group, _ways(found, key, group) | beyond.get(key, {}))
        for key, group in sorted(found.collected.groups.items())
    ]


def _ways(found: Everything, key: Key, group: Group) -> dict[str, Array]:
    done = found.fitted[key]
    return without_calibration(group.problem) | {
        OURS: predict(group.problem, done.fit.rates),
        OURS_OUT: done.held_out.predicted,
        UNSEEN: found.unseen[key],
    }


def without_calibration(problem: Problem) -> dict[str, Array]:
    """What anybody could predict without one."""
    factor = OneFactor(problem)
    copied, scaled = nearest(problem)
    return {
        IDEAL: predict(problem, Rates.ideal()),
        DEFAULT: predict(problem, Rates.single(DEFAULT_EFFICIENCY)),
        FACTOR: factor.in_sample(),
        FACTOR_OUT: factor.held_out(),
        COPIED: copied,
        SCALED: scaled,
    }


Job = tuple[Key, Problem, Fit, str]


def ranges_out(found: Everything) -> dict[Key, dict[str, Array]]:
    """Predictions beyond the lengths, batches and devices that a fit saw, by group and range."""
    jobs: list[Job] = [
        (key, group.problem, found.fitted[key].fit, name)
        for key, group in sorted(found.collected.groups.items())
        for name in RANGES
    ]
    results: dict[Key, dict[str, Array]] = {}
    for job, predicted in zip(jobs, _each(jobs), strict=True):
        results.setdefault(job[0], {})[job[3]] = predicted
    return results


def _each(jobs: list[Job]) -> Iterable[Array]:
    workers = min(os.cpu_count() or 1, len(jobs))
    if workers < 2:
        yield from map(_beyond, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(_beyond, jobs)


def _beyond(job: Job) -> Array:
    _, problem, fit, name = job
    return leave_range_out(problem, fit, RANGES[name](problem))
