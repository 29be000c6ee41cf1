"""All systems together: fit each alone, then those of few models with their relatives' priors.

The second round's held-out fits take their priors only from relatives' fits that left the same
model out, so that a held-out model is unknown to everything that predicts it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from analyzer.kinship import leaning
from analyzer.relatives import relative
from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.families import Belief, Beliefs, beliefs_of, priors_for, vendor_of
from calibration.fit import Fit, fit
from calibration.holdout import HeldOut, leave_one_out
from calibration.parameters import Prior, selected
from calibration.problem import Case
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
    """Groups of few models once more, with priors from all others; where a group is left with few
    only when one of its models is held out, that one is predicted with them."""
    jobs: list[Job] = []
    for group in groups.values():
        asking = sorted(_left_with_few(group))
        if not asking:
            continue
        names = relevant(group.problem)
        everything = {other: beliefs_of(done.fit) for other, done in alone.items()}
        without = {name: kin_priors(names, group, beliefs_without(alone, name)) for name in asking}
        own = speaks_for_itself(group)
        priors = selected(names) if own else kin_priors(names, group, everything)
        jobs.append((group, priors, without))
    again = run_jobs(jobs, "with kin", progress)
    return {key: again.get(key) or alone[key] for key in groups}


def _left_with_few(group: Group) -> set[str]:
    """Models without which the rest of their group cannot speak for itself."""
    models: set[str] = set(group.problem.groups.tolist())
    if not speaks_for_itself(group):
        return models
    cases = group.problem.cases
    if not _all_served(cases) or len(models) >= OWN_MODELS:
        return set()
    rest = {name: sum(case.group != name for case in cases) for name in models}
    return {name for name, rows in rest.items() if rows < OWN_ROWS}


OWN_MODELS = 4
"""With so many models of its own a (system, engine) is better off without its relatives' word."""


OWN_ROWS = 80
"""Rows that do where all of them were served, if they are of two models and more: what differs
between systems' schedulers is more than between models."""


def speaks_for_itself(group: Group) -> bool:
    """Enough models for generic priors to do."""
    cases, models = group.problem.cases, len(set(group.problem.groups))
    served = _all_served(cases) and models >= 2 and len(cases) >= OWN_ROWS
    return models >= OWN_MODELS or served


def _all_served(cases: Sequence[Case]) -> bool:
    return all(case.looped for case in cases)


def kin_priors(names: list[str], group: Group, learnt: Beliefs) -> list[Prior]:
    """Priors from relatives: of served groups the nearest devices first, of others those of the
    same vendor."""
    if not _all_served(group.problem.cases):
        return priors_for(names, group.key, learnt, vendor_of(group.key[0]))
    others = [relative(key, known) for key, known in learnt.items() if key != group.key]
    believed = {entry.name: entry for entry in leaning(group.system.device, group.engine, others)}
    return [believed[name] for name in names]


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
