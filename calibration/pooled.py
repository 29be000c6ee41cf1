"""Systems and engines that nobody measured: rates of an engine class pooled over the systems that
ran it, with bands that say how far such predictions lay from measurements.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from analyzer.calibrated import POOLED, Band, Calibration, FittedRate
from analyzer.kinship import PROCESSORS
from analyzer.relatives import Belief
from calibration.collect import Group, Key
from calibration.export import Z90, digest, rounded
from calibration.families import LEAST_SYSTEMS, Beliefs, beliefs_of, priors_for, vendor_of
from calibration.parameters import GENERIC, LINEAR, Prior
from calibration.problem import METRICS
from calibration.rounds import Fitted
from calibration.strangers import (
    ENGINE,
    MAKER,
    STRANGER,
    SYSTEM,
    Unit,
    band,
    enough,
    pretended,
    relatives_of,
    units,
)

Array = NDArray[np.float64]
Pretended = Mapping[str, Mapping[Key, Array]]
"""By what is left out, and by group."""


def pretend_unmeasured(
    groups: Mapping[Key, Group], alone: Mapping[Key, Fitted]
) -> dict[str, dict[Key, Array]]:
    """Each group's rows predicted by relatives that have less and less in common with it."""
    return pretended(groups, relatives_of(groups, all_beliefs(alone)))


def all_beliefs(alone: Mapping[Key, Fitted]) -> dict[Key, dict[str, Belief]]:
    """What every group learnt by itself."""
    return {key: beliefs_of(done.fit) for key, done in alone.items()}


def _priors(engine: str, learnt: Beliefs, vendor: str | None) -> list[Prior]:
    return priors_for(GENERIC, (POOLED, engine), learnt, vendor)


def stand_ins(
    groups: Mapping[Key, Group],
    alone: Mapping[Key, Fitted],
    pretended: Pretended,
    command: str,
) -> list[Calibration]:
    """One calibration per engine class, one per class and maker, and such for engines of which
    nothing is known."""
    learnt = all_beliefs(alone)
    common = _Common(groups, pretended)
    classes = sorted({engine for _, engine in groups})
    wanted: list[tuple[str, str | None]] = [(name, None) for name in (*classes, POOLED)]
    return [
        _stand_in(name, vendor, groups, learnt, common, command)
        for name, vendor in (*wanted, *_vendor_classes(groups))
    ]


def _vendor_classes(groups: Mapping[Key, Group]) -> list[tuple[str, str]]:
    """Engine classes, and any, that at least two systems of one vendor ran."""
    systems: dict[tuple[str, str], set[str]] = {}
    for system, engine in groups:
        for name in (engine, POOLED):
            systems.setdefault((name, vendor_of(system)), set()).add(system)
    return sorted(pair for pair, names in systems.items() if len(names) >= LEAST_SYSTEMS)


def _stand_in(
    engine: str,
    vendor: str | None,
    groups: Mapping[Key, Group],
    learnt: Beliefs,
    common: _Common,
    command: str,
) -> Calibration:
    members = [
        key for key in groups if engine in (POOLED, key[1]) and vendor in (None, vendor_of(key[0]))
    ]
    records = [record for key in members for record in groups[key].records]
    ran_on = {groups[key].system.device.kind for key in members}
    priors = [
        prior
        for prior in _priors(engine, learnt, vendor)
        if prior.name not in PROCESSORS or ran_on == {"cpu"}
    ]
    return Calibration(
        system=POOLED if vendor is None else f"{POOLED}-{vendor}",
        engine=engine,
        rows=len(records),
        models=len({name for key in members for name in groups[key].problem.groups}),
        rates={entry.name: _rate(entry) for entry in priors},
        bands=common.bands(engine, vendor, members),
        data_sha256=digest(records),
        command=command,
    )


class _Common:
    """Bands that many stand-ins share, made once."""

    def __init__(self, groups: Mapping[Key, Group], pretended: Pretended) -> None:
        self.groups, self.pretended = groups, pretended
        self._made: dict[tuple[str, bool | None, str], Band | None] = {}

    def bands(self, engine: str, vendor: str | None, members: list[Key]) -> tuple[Band, ...]:
        """From the members themselves where they are many; else from all that were measured under
        the same kind of load, and where an engine is unknown from all."""
        unknown = _unknown(engine, vendor)
        served = 2 * sum(self.groups[key].served for key in members) > len(members)
        own = {key: self.groups[key] for key in members}
        mine = units(own, self.pretended[unknown], served)
        made = []
        for metric in METRICS:
            if engine == POOLED:
                found = self._all(unknown, None, metric)
            elif enough(mine[metric]):
                found = band(metric, mine[metric])
            else:
                found = self._all(unknown, served, metric)
                found = found or self._all(unknown, not served, metric)
            made.append(found)
        return tuple(found for found in made if found is not None)

    def _all(self, unknown: str, served: bool | None, metric: str) -> Band | None:
        """Over all groups of one kind of load; None for both kinds."""
        asked = (unknown, served, metric)
        if asked not in self._made:
            loads = (False, True) if served is None else (served,)
            predicted = self.pretended[unknown]
            found: list[Unit] = []
            for load in loads:
                found += units(self.groups, predicted, load)[metric]
            self._made[asked] = band(metric, found) if found else None
        return self._made[asked]


def _unknown(engine: str, vendor: str | None) -> str:
    """What a scenario that takes this stand-in has not got."""
    if engine == POOLED:
        return STRANGER if vendor is None else ENGINE
    return MAKER if vendor is None else SYSTEM


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
