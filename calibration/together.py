"""Groups of requests that come and go, fitted together: their rates are draws of one population.

A served group has two to four models, and what the form misses of one of them goes into whatever
rate is free to take it. Other systems met other models. So the rates of all such groups are fitted
at once, each rate with one normal belief over all groups (analyzer/kinship.py says how alike two
are, and what fixed batches taught): a rate that one group alone tells moves only as far as its
kin let it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.engines import engine
from analyzer.kinship import Kin, Traits, shared, traits
from analyzer.model import Model
from analyzer.timing.rates import Rates
from calibration.collect import Group, Key
from calibration.fit import Fit, Residuals
from calibration.parameters import GENERIC, Prior, bounds, selected, to_rates
from calibration.population_solve import Part, Solved, minimise
from calibration.relevant import relevant

Array = NDArray[np.float64]

OWN = 0.1
"""Variance of what is a group's own in a rate, in squared widths of the generic prior. 0.3, as
between systems that are fitted apart, and 0.1 with a quarter of all variances do as well."""
MARGIN = 1e-3


class Member(NamedTuple):
    """One group in the fit of all."""

    key: Key
    priors: tuple[Prior, ...]
    """Generic ones: names and scales of its rates."""
    residuals: Residuals
    place: slice
    """Where its rates stand among all."""


class Population(NamedTuple):
    """What is believed of all rates of all groups before any of their rows."""

    centre: Array
    precision: Array
    low: Array
    high: Array


def looped(group: Group) -> bool:
    """Whether all rows are of requests that come and go, and their own times were measured."""
    return all(case.looped and not case.queued for case in group.problem.cases)


def fit_together(
    groups: Mapping[Key, Group],
    known: Kin,
    without: Iterable[str] = (),
    start: Mapping[Key, Fit] | None = None,
    effort: int = 30,
) -> dict[Key, Fit]:
    """Fit all groups at once, to the rows of all models but those of `without`.

    `known` are relatives among fixed batches; they must not have seen these models either.
    """
    members = _members(groups, frozenset(without))
    believed = _population(groups, members, known)
    begin = believed.centre if start is None else _begin(members, believed.centre, start)
    parts = [Part(one.residuals, one.place) for one in members]

    def solve(believed: Population, begin: Array) -> Solved:
        ends = (believed.low, believed.high)
        return minimise(parts, believed.centre, believed.precision, ends, begin, effort)

    solved = solve(believed, begin)
    nearer = _doubted(groups, members, believed, solved)
    if nearer is not None:
        believed = nearer
        solved = solve(believed, solved.point)
    return {one.key: _fit(at, one, believed, solved) for at, one in enumerate(members)}


def _members(groups: Mapping[Key, Group], without: frozenset[str]) -> list[Member]:
    made: list[Member] = []
    end = 0
    for key, group in sorted(groups.items()):
        problem = group.problem
        priors = tuple(selected(relevant(problem)))
        rows = ~np.isin(problem.groups, sorted(without))
        residuals = Residuals(problem, priors, Rates.default(), rows)
        made.append(Member(key, priors, residuals, slice(end, end + len(priors))))
        end += len(priors)
    return made


def _population(groups: Mapping[Key, Group], members: Sequence[Member], known: Kin) -> Population:
    count = members[-1].place.stop
    centre, precision = np.zeros(count), np.zeros((count, count))
    kinds = [traits(groups[one.key].system.device, one.key[1]) for one in members]
    met: dict[str, list[tuple[int, int]]] = {}
    for at, one in enumerate(members):
        for place, entry in enumerate(one.priors, one.place.start):
            met.setdefault(entry.name, []).append((at, place))
    for name, where in met.items():
        places = [place for _, place in where]
        centre[places], covariance = _believed(name, [kinds[at] for at, _ in where], known)
        precision[np.ix_(places, places)] = np.linalg.inv(covariance)
    ends = [bounds(one.priors) for one in members]
    low, high = (np.concatenate([end[side] for end in ends]) for side in (0, 1))
    return Population(centre, precision, low, high)


def _believed(name: str, kinds: Sequence[Traits], known: Kin) -> tuple[Array, Array]:
    """Centre and covariance of one rate over groups of these traits, given their relatives."""
    generic, heard = GENERIC[name], known.heard.get(name)
    covariance = shared(kinds, kinds).covariance(name) + OWN * np.eye(len(kinds))
    centre = np.zeros(len(kinds))
    if heard is not None:
        with_each = shared(kinds, known.traits).covariance(name)[:, heard.who]
        covariance = covariance - with_each @ heard.precision @ with_each.T
        centre = with_each @ heard.pull
    # as with relatives of one: nobody's word makes a rate less sure than the generic prior is
    shrink = np.minimum(1.0, 1.0 / np.sqrt(np.diag(covariance)))
    covariance = covariance * shrink[:, None] * shrink[None, :]
    return generic.centre + generic.width * centre, covariance * generic.width**2


ALONE, NEAR = 0.95, 0.5
"""Share of what the rows of an engine say of a rate that one architecture says; how far it may then
lie from its centre, in widths of the generic prior."""


def _doubted(
    groups: Mapping[Key, Group], members: Sequence[Member], believed: Population, solved: Solved
) -> Population | None:
    """Bounds nearer to the centre for rates that one architecture alone tells; None where all are
    within them."""
    told = _told_by(groups, members, solved)
    low, high = believed.low.copy(), believed.high.copy()
    for one in members:
        for place, entry in enumerate(one.priors, one.place.start):
            by = told.get((engine(one.key[1]).family, entry.name), {})
            if by and max(by.values()) > ALONE * sum(by.values()):
                centre = np.clip(believed.centre[place], low[place], high[place])
                low[place] = max(low[place], centre - NEAR * entry.width)
                high[place] = min(high[place], centre + NEAR * entry.width)
    inside = (solved.point >= low - MARGIN) & (solved.point <= high + MARGIN)
    return None if inside.all() else believed._replace(low=low, high=high)


def _told_by(
    groups: Mapping[Key, Group], members: Sequence[Member], solved: Solved
) -> dict[tuple[str, str], dict[Model, float]]:
    """How much each architecture says of each rate of an engine family."""
    told: dict[tuple[str, str], dict[Model, float]] = {}
    for one, here in zip(members, solved.told, strict=True):
        family = engine(one.key[1]).family
        kinds = _architectures(groups[one.key], one.residuals.used)
        for kind in set(kinds):
            says = (here.jacobian[[other == kind for other in kinds]] ** 2).sum(axis=0)
            for entry, much in zip(one.priors, says, strict=True):
                by = told.setdefault((family, entry.name), {})
                by[kind] = by.get(kind, 0.0) + float(much)
    return told


def _architectures(group: Group, used: NDArray[np.bool_]) -> list[Model]:
    """The architecture, whatever its name, of each entry that was fitted."""
    rows = [msgspec.structs.replace(case.model, name="") for case in group.problem.cases]
    return [rows[row] for row in np.nonzero(used)[0]]


def _begin(members: Sequence[Member], centre: Array, start: Mapping[Key, Fit]) -> Array:
    begin = centre.copy()
    for one in members:
        if one.key in start:
            fit = start[one.key]
            had = {entry.name: x for entry, x in zip(fit.priors, fit.point, strict=True)}
            begin[one.place] = [
                had.get(entry.name, begin[place])
                for place, entry in enumerate(one.priors, one.place.start)
            ]
    return begin


def _fit(at: int, one: Member, believed: Population, solved: Solved) -> Fit:
    """One group's share of the solution. Its prior is what all the others say: what would be
    believed of it without its own rows."""
    point, own = solved.point[one.place], solved.told[at]
    low, high = believed.low[one.place], believed.high[one.place]
    everything = solved.covariance[one.place, one.place]
    others = np.linalg.inv(np.linalg.inv(everything) - own.information)
    width = np.sqrt(np.maximum(np.diag(others), 1e-12))
    deviation = np.sqrt(np.diag(everything))
    centre = np.clip(point + others @ own.slope, low, high)
    priors = tuple(
        Prior(name=entry.name, centre=float(x), width=float(w))
        for entry, x, w in zip(one.priors, centre, width, strict=True)
    )
    scales = np.array([entry.width for entry in one.priors])
    singular = np.sqrt(
        np.maximum(np.linalg.eigvalsh(own.information * np.outer(scales, scales)), 0.0)
    )
    return Fit(
        to_rates(one.priors, point, Rates.default()),
        priors,
        point,
        deviation,
        np.clip(1.0 - (deviation / width) ** 2, 0.0, 1.0),
        (point - low < MARGIN) | (high - point < MARGIN),
        float(singular[-1] / max(singular[0], 1e-300)),
        own.cost,
    )
