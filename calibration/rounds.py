"""All systems together: fit each alone, then those of few models with their relatives' priors, and
those of requests that come and go all at once.

The second round's held-out fits take their priors only from relatives' fits that left the same
model out, so that a held-out model is unknown to everything that predicts it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np

from analyzer.kinship import Kin, kin, leaning
from analyzer.relatives import relative
from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.families import Belief, Beliefs, beliefs_of, priors_for, vendor_of
from calibration.fit import Fit, fit
from calibration.holdout import HeldOut, leave_one_out
from calibration.parameters import Prior, selected
from calibration.problem import Case, predict
from calibration.relevant import relevant
from calibration.together import fit_together, looped


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
    """Groups of few models once more, with priors from all others, and closed loops together."""
    served = {key: group for key, group in groups.items() if looped(group)}
    jobs: list[Job] = []
    for group in groups.values():
        if group.key in served or speaks_for_itself(group):
            continue
        names = relevant(group.problem)
        models: set[str] = set(group.problem.groups.tolist())
        everything = {other: beliefs_of(done.fit) for other, done in alone.items()}
        without = {name: kin_priors(names, group, beliefs_without(alone, name)) for name in models}
        jobs.append((group, kin_priors(names, group, everything), without))
    again = run_jobs(jobs, "with kin", progress) | round_together(served, alone, progress)
    return {key: again.get(key) or alone[key] for key in groups}


def round_together(
    groups: dict[Key, Group], alone: dict[Key, Fitted], progress: Progress | None = None
) -> dict[Key, Fitted]:
    """Closed loops, fitted together to all their rows and without each model in turn."""
    if not groups:
        return {}
    steady = {key: done for key, done in alone.items() if key not in groups}
    everything = kin(relative(key, beliefs_of(done.fit)) for key, done in steady.items())
    start = {key: alone[key].fit for key in groups if key in alone}
    full = fit_together(groups, everything, (), start)
    names = sorted({name for group in groups.values() for name in group.problem.groups.tolist()})
    folds: list[Fold] = []
    for name in names:
        learnt = beliefs_without(steady, name)
        known = kin(relative(key, beliefs) for key, beliefs in learnt.items())
        folds.append((groups, known, name, full))
    done = {}
    for count, (name, without) in enumerate(zip(names, over_cores(_fold, folds), strict=True), 1):
        done[name] = without
        if progress is not None:
            progress(f"closed loops without {name}", count, len(names))
    return {key: _fitted(group, full[key], done) for key, group in groups.items()}


Fold = tuple[dict[Key, Group], Kin, str, dict[Key, Fit]]


def _fold(fold: Fold) -> dict[Key, Fit]:
    groups, known, name, full = fold
    return fit_together(groups, known, (name,), full, REFIT)


REFIT = 6
"""Steps of a fit of all closed loops that starts from the one that knows all models."""


def _fitted(group: Group, full: Fit, without: Mapping[str, Mapping[Key, Fit]]) -> Fitted:
    problem = group.problem
    names = sorted(set(problem.groups.tolist()))
    predicted = np.full((len(problem.cases), 3), np.nan)
    fits = {name: without[name][group.key] for name in names} if len(names) > 1 else {}
    for name, fit_without in fits.items():
        its = problem.groups == name
        predicted[its] = predict(problem, fit_without.rates)[its]
    return Fitted(group.key, full, HeldOut(predicted, fits), frozenset(names))


OWN_MODELS = 4
"""With so many models of its own a (system, engine) is better off without its relatives' word."""


def speaks_for_itself(group: Group) -> bool:
    """Enough models for generic priors to do; closed loops are fitted together in any case."""
    return len(set(group.problem.groups)) >= OWN_MODELS and not looped(group)


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
    for count, fitted in enumerate(over_cores(fit_group, jobs), 1):
        done[fitted.key] = fitted
        if progress is not None:
            progress(f"{stage}: {fitted.key[0]} {fitted.key[1]}", count, len(jobs))
    return done


Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def over_cores(work: Callable[[Asked], Answer], jobs: Sequence[Asked]) -> Iterable[Answer]:
    """Do all, in order, on all cores."""
    workers = min(os.cpu_count() or 1, len(jobs))
    if workers < 2:
        yield from map(work, jobs)
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from pool.map(work, jobs)


def fit_group(job: Job) -> Fitted:
    """Fit one group and leave each of its models out in turn."""
    group, priors, without = job
    full = fit(group.problem, priors, Rates.default())
    held_out = leave_one_out(group.problem, full, lambda name: without.get(name, priors))
    return Fitted(group.key, full, held_out, frozenset(group.problem.groups.tolist()))
