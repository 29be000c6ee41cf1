"""Priors from kin: what other systems and other engines say about a rate before one's own data.

A rate of (system, engine) is believed to lie near that of the same engine on other systems, and, if
it is a property of the hardware rather than of the software, near that of other engines on the same
system. How near is a fraction of the generic prior's width; each relative counts as one observation
with that spread and its own uncertainty (empirical-Bayes shrinkage).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np

from analyzer.calibrated import POOLED
from analyzer.engines import engine
from calibration.fit import Fit
from calibration.parameters import GENERIC, Prior

ACROSS_SYSTEMS = 0.5
"""Spread of a rate of one engine over systems, in widths of the generic prior."""
ACROSS_GENERATIONS = 0.7
ACROSS_ENGINES = 0.8
"""Spread of a hardware's rate over engines, in the same unit."""
HARDWARE = frozenset(
    {
        "gemm_eff_32",
        "gemm_eff_16",
        "gemm_eff_8",
        "gemm_eff_4",
        "mem_eff",
        "kv_eff",
        "vector_eff",
        "collective_s",
        "link_eff",
    }
)
LEAST_SHARE = 0.3
"""Relatives that hardly learnt a rate themselves have nothing to say about it."""

Key = tuple[str, str]


class Belief(NamedTuple):
    """What one calibration learnt about one rate, in the fitting scale."""

    point: float
    deviation: float
    data_share: float


Beliefs = Mapping[Key, Mapping[str, Belief]]


def beliefs_of(fit: Fit) -> dict[str, Belief]:
    """What a fit has to say to its relatives."""
    return {
        entry.name: Belief(float(x), float(sd), float(share))
        for entry, x, sd, share in zip(
            fit.priors, fit.point, fit.deviation, fit.data_share, strict=True
        )
    }


def priors_for(names: Iterable[str], key: Key, beliefs: Beliefs) -> list[Prior]:
    """Priors of these rates for one (system, engine), from all others."""
    return [_prior(name, key, beliefs) for name in names]


def _prior(name: str, key: Key, beliefs: Beliefs) -> Prior:
    generic = GENERIC[name]
    precision, weighted = 1.0 / generic.width**2, generic.centre / generic.width**2
    closest = generic.width
    for other, learnt in beliefs.items():
        spread = _spread(name, key, other)
        belief = learnt.get(name)
        if spread is None or belief is None or belief.data_share < LEAST_SHARE:
            continue
        between = spread * generic.width
        closest = min(closest, between)
        weight = 1.0 / (between**2 + belief.deviation**2)
        precision, weighted = precision + weight, weighted + weight * belief.point
    # however many relatives: one's own rate still differs from their mean by the spread between
    width = float(np.sqrt(1.0 / precision + (closest**2 if closest < generic.width else 0.0)))
    return Prior(name=name, centre=weighted / precision, width=min(width, generic.width))


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
