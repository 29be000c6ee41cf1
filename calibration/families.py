"""Priors from kin: what other systems and other engines say about a rate before one's own data.

A rate of (system, engine) is believed to lie near that of the same engine on other systems, and, if
it is a property of the hardware rather than of the software, near that of other engines on the same
system. How near is a fraction of the generic prior's width; each relative counts as one observation
with that spread and its own uncertainty (empirical-Bayes shrinkage).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import numpy as np

from analyzer.calibrated import POOLED
from analyzer.engines import engine
from analyzer.errors import ConfigError
from analyzer.relatives import HARDWARE, Belief
from analyzer.systems_catalog import load_system
from calibration.fit import Fit
from calibration.parameters import GENERIC, Prior

ACROSS_SYSTEMS = 0.5
"""Spread of a rate of one engine over systems, in widths of the generic prior."""
ACROSS_GENERATIONS = 0.7
ACROSS_ENGINES = 0.8
"""Spread of a hardware's rate over engines, in the same unit."""
LEAST_SYSTEMS = 2
LEAST_SHARE = 0.3
"""Relatives that hardly learnt a rate themselves have nothing to say about it."""

__all__ = ["Belief", "Beliefs", "beliefs_of", "priors_for", "vendor_of"]

Key = tuple[str, str]
Beliefs = Mapping[Key, Mapping[str, Belief]]


def beliefs_of(fit: Fit) -> dict[str, Belief]:
    """What a fit has to say to its relatives."""
    return {
        entry.name: Belief(float(x), float(sd), float(share))
        for entry, x, sd, share in zip(
            fit.priors, fit.point, fit.deviation, fit.data_share, strict=True
        )
    }


def priors_for(
    names: Iterable[str], key: Key, beliefs: Beliefs, vendor: str | None = None
) -> list[Prior]:
    """Priors of these rates for one (system, engine), from all others.

    With a `vendor`, only systems of that vendor count where there are at least two of the engine.
    """
    near = {other: learnt for other, learnt in beliefs.items() if vendor_of(other[0]) == vendor}
    enough = len({other[0] for other in near if other[1] == key[1]}) >= LEAST_SYSTEMS
    chosen = near if vendor is not None and enough else beliefs
    return [_prior(name, key, _without_generations(key, chosen)) for name in names]


def _without_generations(key: Key, beliefs: Beliefs) -> Beliefs:
    """Other generations of an engine count only where the very one is hardly known."""
    same = {other[0] for other in beliefs if other[1] == key[1] and other != key}
    if len(same) < LEAST_SYSTEMS:
        return beliefs
    family = engine(key[1]).family
    return {
        other: learnt
        for other, learnt in beliefs.items()
        if other[1] == key[1] or engine(other[1]).family != family
    }


@lru_cache(maxsize=256)
def vendor_of(system: str) -> str:
    """Who makes the system's devices, in lower case; empty where no catalog knows it."""
    try:
        return load_system(system).device.vendor.lower()
    except ConfigError:
        return ""


def _prior(name: str, key: Key, beliefs: Beliefs) -> Prior:
    generic = GENERIC[name]
    points, weights = [generic.centre], [1.0 / generic.width**2]
    closest = generic.width
    for other, learnt in beliefs.items():
        spread = _spread(name, key, other)
        belief = learnt.get(name)
        if spread is None or belief is None or belief.data_share < LEAST_SHARE:
            continue
        between = spread * generic.width
        closest = min(closest, between)
        points.append(belief.point)
        weights.append(1.0 / (between**2 + belief.deviation**2))
    # however many relatives: one's own rate still differs from theirs by the spread between
    own = closest**2 if closest < generic.width else 0.0
    width = min(float(np.sqrt(1.0 / sum(weights) + own)), generic.width)
    return Prior(name=name, centre=_median(points, weights), width=width)


def _median(points: list[float], weights: list[float]) -> float:
    """Weighted median: one odd relative must not drag the others along."""
    order = np.argsort(points)
    ranked, shares = np.array(points)[order], np.array(weights)[order]
    position = (np.cumsum(shares) - shares / 2) / shares.sum()
    return float(np.interp(0.5, position, ranked))


def _spread(name: str, key: Key, other: Key) -> float | None:
    """How far a relative's rate may lie from one's own; None for oneself and strangers."""
    if other == key:
        return None
    if other[1] == key[1]:
        return ACROSS_SYSTEMS
    if other[0] == key[0] and name in HARDWARE:
        return ACROSS_ENGINES
    if engine(other[1]).family == engine(key[1]).family:
        return ACROSS_GENERATIONS
    if key[1] == POOLED:
        return ACROSS_ENGINES
    return None
