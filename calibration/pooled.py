"""Systems that nobody measured: rates of an engine class pooled over the systems that were.

How far to trust them is measured by pretending: each system is predicted from the others alone.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analyzer.calibrated import POOLED, Calibration, FittedRate
from analyzer.kinship import kin
from analyzer.relatives import Belief, relative
from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.export import Z90, digest, rounded
from calibration.families import LEAST_SYSTEMS, Beliefs, beliefs_of, priors_for, vendor_of
from calibration.intervals import Residuals, bands, pool, residuals, widening
from calibration.parameters import GENERIC, LINEAR, Prior, to_rates
from calibration.problem import METRICS, predict
from calibration.rounds import Fitted

Array = NDArray[np.float64]


def unseen_systems(groups: Mapping[Key, Group], alone: Mapping[Key, Fitted]) -> dict[Key, Array]:
    """Each group's rows predicted by rates from other systems only."""
    known = [relative(key, beliefs) for key, beliefs in all_beliefs(alone).items()]
    without = {name: kin(other for other in known if other.system != name) for name, _ in groups}
    return {
        key: predict(group.problem, _rates(without[key[0]].believe(group.system.device, key[1])))
        for key, group in groups.items()
    }


def all_beliefs(alone: Mapping[Key, Fitted]) -> dict[Key, dict[str, Belief]]:
    """What every group learnt by itself."""
    return {key: beliefs_of(done.fit) for key, done in alone.items()}


def _priors(engine: str, learnt: Beliefs, vendor: str | None) -> list[Prior]:
    return priors_for(GENERIC, (POOLED, engine), learnt, vendor)


def _rates(priors: list[Prior]) -> Rates:
    return to_rates(priors, np.array([entry.centre for entry in priors]), Rates.default())


def stand_ins(
    groups: Mapping[Key, Group],
    alone: Mapping[Key, Fitted],
    unseen: Mapping[Key, Array],
    command: str,
) -> list[Calibration]:
    """One calibration per engine class, and one for engines of which nothing is known."""
    learnt = all_beliefs(alone)
    missed = {key: _residuals(group, unseen[key]) for key, group in groups.items()}
    everyone = {
        metric: pool([("/".join(key), own[index]) for key, own in missed.items()])
        for index, metric in enumerate(METRICS)
    }
    factors = {metric: widening([own]) for metric, own in everyone.items()}
    classes = sorted({engine for _, engine in groups})
    wanted = [*((name, None) for name in (*classes, POOLED)), *_vendor_classes(groups)]
    return [
        _stand_in(name, vendor, groups, learnt, missed, everyone, factors, command)
        for name, vendor in wanted
    ]


def _vendor_classes(groups: Mapping[Key, Group]) -> list[tuple[str, str]]:
    """Engine classes that at least two systems of one vendor ran."""
    systems: dict[tuple[str, str], set[str]] = {}
    for system, engine in groups:
        systems.setdefault((engine, vendor_of(system)), set()).add(system)
    return sorted(pair for pair, names in systems.items() if len(names) >= LEAST_SYSTEMS)


def _residuals(group: Group, predicted: Array) -> list[Residuals]:
    """Residuals on an unseen system: the system is the group, whatever models it ran."""
    problem = group.problem
    return residuals(predicted, problem.observed, problem.groups)


def _stand_in(
    engine: str,
    vendor: str | None,
    groups: Mapping[Key, Group],
    learnt: Beliefs,
    missed: Mapping[Key, list[Residuals]],
    everyone: Mapping[str, Residuals],
    factors: Mapping[str, float],
    command: str,
) -> Calibration:
    members = [
        key for key in groups if engine in (POOLED, key[1]) and vendor in (None, vendor_of(key[0]))
    ]
    own = [pool([("/".join(key), missed[key][i]) for key in members]) for i in range(len(METRICS))]
    records = [record for key in members for record in groups[key].records]
    priors = _priors(engine, learnt, vendor)
    rates = {entry.name: _rate(entry) for entry in priors}
    return Calibration(
        system=POOLED if vendor is None else f"{POOLED}-{vendor}",
        engine=engine,
        rows=len(records),
        models=len({name for key in members for name in groups[key].problem.groups}),
        rates=rates,
        bands=bands(own, everyone, factors),
        data_sha256=digest(records),
        command=command,
    )


def _rate(entry: Prior) -> FittedRate:
    low, high = entry.centre - Z90 * entry.width, entry.centre + Z90 * entry.width
    if entry.name not in LINEAR:
        low, high = np.exp(low), np.exp(high)
    return FittedRate(
        value=rounded(entry.value),
        low=rounded(low),
        high=rounded(high),
        data_share=0.0,
        identified=False,
    )
