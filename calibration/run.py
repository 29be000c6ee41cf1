"""Calibration as one call: everything that was measured, or one system.

`calibrate_all` fits every (system, engine) of the corpus in two rounds and is what the shipped
calibrations and the validation report are made of. `calibrate` fits one system, leaning on the
shipped calibrations of its relatives, and takes a user's own measurements beside published ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.calibrated import FOLDER, POOLED, Band, Calibration, calibrations, load_calibration
from analyzer.errors import CalibrationError, InputError, nearest
from analyzer.kinship import kin, kin_of
from analyzer.records import Record
from analyzer.relatives import write_relatives
from analyzer.systems_catalog import load_system
from analyzer.timing.rates import Rates
from calibration import pooled as pooling
from calibration.collect import Collected, Group, Key, collect
from calibration.corpus import PERF_DIR, load_corpus
from calibration.export import calibration as assemble
from calibration.export import write
from calibration.families import Belief, Beliefs
from calibration.fit import Fit
from calibration.intervals import Residuals, bands, pool, residuals, seen_bands, widening
from calibration.parameters import LINEAR, Prior, selected
from calibration.problem import METRICS, Case, predict
from calibration.relevant import relevant
from calibration.rounds import (
    Fitted,
    Job,
    Progress,
    first_round,
    kin_priors,
    run_jobs,
    second_round,
    speaks_for_itself,
)
from calibration.strangers import SYSTEM, relatives_of
from calibration.unmet import completed

Array = NDArray[np.float64]


class Everything(NamedTuple):
    """All fits of the corpus and what was learnt from leaving things out."""

    collected: Collected
    alone: dict[Key, Fitted]
    fitted: dict[Key, Fitted]
    factors: dict[str, float]
    """Widening of the bands by metric."""
    pooled: dict[str, Residuals]
    """Held-out residuals of all groups by metric."""
    bands: dict[Key, tuple[Band, ...]]
    pretended: dict[str, dict[Key, Array]]
    """Predictions of each group as if its system, maker or engine had not been measured."""

    @property
    def unseen(self) -> dict[Key, Array]:
        """Predictions of each group from other systems alone."""
        return self.pretended[SYSTEM]


class Outcome(NamedTuple):
    """One calibrated (system, engine)."""

    group: Group
    fitted: Fitted
    calibration: Calibration


def calibrate_all(
    records: Iterable[Record] | None = None, progress: Progress | None = None
) -> Everything:
    """Fit everything that was measured, in two rounds."""
    collected = collect(load_corpus(PERF_DIR).records if records is None else records)
    alone = first_round(collected.groups, progress)
    fitted = second_round(collected.groups, alone, progress)
    held_out = {
        key: residuals(done.held_out.predicted, group.problem.observed, group.problem.groups)
        for key, group in collected.groups.items()
        if (done := fitted[key])
    }
    factors, everyone = _interval_basis(held_out)
    made = _bands_by_load(collected.groups, held_out)
    for key, group in collected.groups.items():
        made[key] += seen_of(group, fitted[key].fit)
    pretended = pooling.pretend_unmeasured(collected.groups, alone)
    return Everything(collected, alone, fitted, factors, everyone, made, pretended)


def _interval_basis(
    held_out: dict[Key, list[Residuals]],
) -> tuple[dict[str, float], dict[str, Residuals]]:
    factors, everyone = {}, {}
    for index, metric in enumerate(METRICS):
        parts = [("/".join(key), own[index]) for key, own in held_out.items()]
        factors[metric] = widening([own for _, own in parts])
        everyone[metric] = pool(parts)
    return factors, everyone


def _bands_by_load(
    groups: dict[Key, Group], held_out: dict[Key, list[Residuals]]
) -> dict[Key, tuple[Band, ...]]:
    """Fixed batches and loads err by other amounts: each kind borrows from and is widened by its
    own."""
    made: dict[Key, tuple[Band, ...]] = {}
    for served in (False, True):
        alike = {key: own for key, own in held_out.items() if groups[key].served == served}
        if alike:
            factors, everyone = _interval_basis(alike)
            made |= {key: bands(own, everyone, factors) for key, own in alike.items()}
    return made


def seen_of(group: Group, fit: Fit) -> tuple[Band, ...]:
    """Bands for what the fit has seen; none where rows are few beside the rates fitted to them."""
    problem = group.problem
    rows, free = int(np.isfinite(problem.observed).sum()), float(fit.data_share.sum())
    if rows < 3.0 * free:
        return ()
    optimism = float(np.sqrt((rows + free) / (rows - free)))
    cells = np.array([cell(case) for case in problem.cases])
    own = residuals(predict(problem, fit.rates), problem.observed, cells)
    return seen_bands(own, [part.groups for part in own], optimism)


def cell(case: Case) -> str:
    """Rows that differ in lengths only."""
    plan = case.plan
    layout = (plan.weights, plan.kv, plan.tp, plan.pp, plan.dp, plan.ep, plan.attention_dp)
    return " ".join(map(str, (case.group, *layout, case.workload.batch)))


COMMAND = "plumbline calibrate --all"


def outcomes(found: Everything) -> list[Outcome]:
    """Every (system, engine) with its calibration."""
    learnt = pooling.all_beliefs(found.alone)
    known = kin(relatives_of(found.collected.groups, learnt).values())
    made = []
    for key, group in sorted(found.collected.groups.items()):
        done = found.fitted[key]
        own = assemble(group, done.fit, done.held_out.predicted, found.bands[key], COMMAND)
        made.append(Outcome(group, done, completed(own, group.system.device, known)))
    return made


def write_catalog(found: Everything, folder: Path = FOLDER) -> list[Path]:
    """Write all calibrations, and those that stand in for systems nobody measured."""
    made = [outcome.calibration for outcome in outcomes(found)]
    made += pooling.stand_ins(found.collected.groups, found.alone, found.pretended, COMMAND)
    written = [write(entry, folder) for entry in made]
    write_relatives(pooling.all_beliefs(found.alone), folder)
    for stale in set(folder.glob("*__*.toml")) - set(written):
        stale.unlink()
    return written


def gathered(system: str, own: Sequence[Record] = (), data: Path = PERF_DIR) -> Collected:
    """All measurements on one system, published and one's own, sorted out."""
    name = load_system(system).name
    published = [] if own and not data.is_dir() else list(load_corpus(data, only=name).records)
    return collect([*(r for r in published if _measured_on(r, name)), *own], only=name)


def _measured_on(record: Record, system: str) -> bool:
    try:
        return load_system(record.scenario.hardware).name == system
    except InputError:
        return False


def calibrate(
    system: str,
    engine: str = "",
    own: Sequence[Record] = (),
    data: Path = PERF_DIR,
    progress: Progress | None = None,
) -> list[Outcome]:
    """Fit every engine (or the one named) that was measured on one system.

    `own` are further records, a user's measurements. Priors come from the shipped calibrations of
    other systems; the held-out models may be among those that they saw there.
    """
    return calibrate_collected(
        load_system(system).name, gathered(system, own, data), engine, progress
    )


def calibrate_collected(
    name: str,
    collected: Collected,
    engine: str = "",
    progress: Progress | None = None,
    priors_of: Callable[[Group], Sequence[Prior]] | None = None,
) -> list[Outcome]:
    """Fit the groups of one system, by its catalog name, that are sorted out already.

    Priors come from the shipped calibrations of relatives unless `priors_of` says others.
    """
    chosen = {key: group for key, group in collected.groups.items() if engine in ("", key[1])}
    if not chosen:
        raise CalibrationError(_nothing(name, engine, collected))
    believed = _from_relatives(shipped_beliefs()) if priors_of is None else priors_of
    jobs: list[Job] = [(group, believed(group), {}) for _, group in sorted(chosen.items())]
    done = run_jobs(jobs, "fitted", progress)
    return [_outcome(group, done[group.key]) for group, _, _ in jobs]


def _from_relatives(shipped: Beliefs) -> Callable[[Group], Sequence[Prior]]:
    def believed(group: Group) -> Sequence[Prior]:
        names = relevant(group.problem)
        if speaks_for_itself(group):
            return selected(names)
        return kin_priors(names, group, shipped)

    return believed


def _nothing(system: str, engine: str, collected: Collected) -> str:
    if collected.groups:
        known = sorted(key[1] for key in collected.groups)
        there = ", ".join(known)
        return (
            f"no measurements of {engine!r} on {system}{nearest(engine, known)}; there are {there}"
        )
    return (
        f"no usable measurements on {system}: measure TTFT and TPOT of two models at two lengths "
        f"and two batches (calibrate --system {system} --suggest 8) and pass them with --perf-dir"
    )


def _outcome(group: Group, fitted: Fitted) -> Outcome:
    problem = group.problem
    own = residuals(fitted.held_out.predicted, problem.observed, problem.groups)
    parts = dict(zip(METRICS, own, strict=True))
    factors = {metric: widening([mine]) for metric, mine in parts.items()}
    made = bands(own, {}, factors)
    missing = _borrowed(group, {band.metric for band in made})
    command = f"plumbline calibrate --system {group.system.name}"
    found = assemble(
        group,
        fitted.fit,
        fitted.held_out.predicted,
        (*made, *missing, *seen_of(group, fitted.fit)),
        command,
    )
    return Outcome(group, fitted, completed(found, group.system.device, kin_of(FOLDER)))


def _borrowed(group: Group, have: set[str]) -> list[Band]:
    """Bands of the shipped calibration where one's own data cannot speak."""
    shipped = load_calibration(group.system.name, group.engine) or load_calibration(POOLED, POOLED)
    if shipped is None:
        return []
    return [band for band in shipped.bands if band.metric not in have]


def shipped_beliefs() -> Beliefs:
    """What the calibrations at hand learnt, shipped and one's own."""
    learnt: dict[Key, dict[str, Belief]] = {}
    for system, engine in calibrations():
        found = load_calibration(system, engine)
        if found is not None and not system.startswith(POOLED):
            learnt[system, engine] = {
                name: belief(name, rate.value, rate.low, rate.high, rate.data_share)
                for name, rate in found.rates.items()
            }
    return learnt


def belief(name: str, value: float, low: float, high: float, share: float) -> Belief:
    """What a calibration file says of a rate, in the fitting scale."""
    if name in LINEAR:
        return Belief(value, (high - low) / 3.29, share)
    return Belief(float(np.log(value)), float(np.log(high / low)) / 3.29, share)


def base_rates() -> Rates:
    """Where rates start that no data speak of."""
    return Rates.default()
