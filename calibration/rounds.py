"""All systems together: fit each alone, then those of few models with their relatives' priors.

The second round's held-out fits take their priors only from relatives' fits that left the same
model out, so that a held-out model is unknown to everything that predicts it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.families import Belief, Beliefs, beliefs_of, priors_for, vendor_of
from calibration.fit import Fit, fit
from calibration.holdout import HeldOut, leave_one_out
from calibration.parameters import Prior, selected
from calibration.relevant import relevant


class Fitted(NamedTuple):
    """One (system, engine), fitted to all its data and with each model left out."""

    key: Key
    fit: Fit
    held_out: HeldOut
    models: frozenset[str]


Progress = Callable[[str, int, int], None]


def first_round(groups: dict[Key, Group], progress: Progress | None = None) -> dict[Key, Fitted]:
    """Each group alone, with generic priors."""
    jobs: list[Job] = [(group, selected(relevant(group.problem)), {}) for group in groups.values()]
    return run_jobs(jobs, "alone", progress)


def second_round(
    groups: dict[Key, Group], alone: dict[Key, Fitted], progress: Progress | None = None
) -> dict[Key, Fitted]:
    """Groups of few models once more, with priors from all others."""
    done = {key: alone[key] for key, group in groups.items() if speaks_for_itself(group)}
    jobs: list[Job] = []
    for key, group in groups.items():
        if key in done:
            continue
        names = relevant(group.problem)
        everything = {other: beliefs_of(done.fit) for other, done in alone.items()}
        without = {
            name: kin_priors(names, key, beliefs_without(alone, name))
            for name in sorted(set(group.problem.groups))
        }
        jobs.append((group, kin_priors(names, key, everything), without))
    again = run_jobs(jobs, "with kin", progress)
    return {key: done.get(key) or again[key] for key in groups}


OWN_MODELS = 4
"""With so many models of its own a (system, engine) is better off without its relatives' word."""


OWN_SERVED = 2, 50
"""Models and rows that do where all of them were served: what differs between systems' schedulers
is more than between models."""


def speaks_for_itself(group: Group) -> bool:
    """Enough models for generic priors to do."""
    cases, models = group.problem.cases, len(set(group.problem.groups))
    least, rows = OWN_SERVED
    served = all(case.looped for case in cases) and models >= least and len(cases) >= rows
    return models >= OWN_MODELS or served


def kin_priors(names: list[str], key: Key, learnt: Beliefs) -> list[Prior]:
    """Priors from relatives, those of the same vendor first."""
    return priors_for(names, key, learnt, vendor_of(key[0]))


def beliefs_without(alone: dict[Key, Fitted], model: str) -> Beliefs:
    """What all groups learnt without ever seeing one model."""
    learnt: dict[Key, dict[str, Belief]] = {}
    for key, done in alone.items():
        if model in done.held_out.fits:
            learnt[key] = beliefs_of(done.held_out.fits[model])
        elif model not in done.models:
            learnt[key] = beliefs_of(done.fit)
    return learnt


Job = tuple[Group, Sequence[Prior], Mapping[str, Sequence[Prior]]]


def run_jobs(jobs: list[Job], stage: str, progress: Progress | None = None) -> dict[Key, Fitted]:
    """Fit every group, on all cores."""
    done: dict[Key, Fitted] = {}
    for count, fitted in enumerate(_each(jobs), 1):
        done[fitted.key] = fitted
        if progress is not None:
            progress(f"{stage}: {fitted.key[0]} {fitted.key[1]}", count, len(jobs))
    return done


def _each(jobs: list[Job]) -> Iterable[Fitted]:
    workers = min(os.cpu_count() or 1, len(jobs))
    if workers < 2 or len(jobs) < 2:
        yield from map(fit_group, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(fit_group, jobs)


def fit_group(job: Job) -> Fitted:
    """Fit one group and leave each of its models out in turn."""
    group, priors, without = job
    full = fit(group.problem, priors, Rates.default())
    held_out = leave_one_out(group.problem, full, lambda name: without.get(name, priors))
    return Fitted(group.key, full, held_out, frozenset(group.problem.groups.tolist()))
