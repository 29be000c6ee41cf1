"""What a fit may change: which rates, in which scale, with which prior.

A prior says what is believed of a machine before any of its own measurements; what the data cannot
tell stays there. The generic priors (`analyzer/priors.py`) are wide. Those of an engine class are
narrower: they are the spread of the rates over the systems that the class was calibrated on (see
`families.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import CalibrationError, nearest
from analyzer.priors import GENERIC, LINEAR, Prior, prior
from analyzer.timing.rates import PARAMETERS, Rates

__all__ = ["GENERIC", "LINEAR", "Prior", "bounds", "prior", "selected", "to_rates"]

Array = NDArray[np.float64]


def selected(names: Iterable[str]) -> list[Prior]:
    """The generic priors of these rates, in the order given."""
    chosen = []
    for name in names:
        if name not in GENERIC:
            raise CalibrationError(f"no prior for rate {name!r}{nearest(name, GENERIC)}")
        chosen.append(GENERIC[name])
    return chosen


def bounds(priors: Iterable[Prior]) -> tuple[Array, Array]:
    """Believable limits of each rate, in the fitting scale."""
    low, high = [], []
    for entry in priors:
        limits = PARAMETERS[entry.name]
        if entry.name in LINEAR:
            low.append(limits.low)
            high.append(limits.high)
        else:
            low.append(np.log(max(limits.low, limits.high * 1e-9)))
            high.append(np.log(limits.high))
    return np.array(low), np.array(high)


def to_rates(priors: Iterable[Prior], point: Array, base: Rates) -> Rates:
    """The rates at a point of the fitting space; what is not fitted keeps its value in `base`."""
    values = {
        entry.name: float(x) if entry.name in LINEAR else float(np.exp(x))
        for entry, x in zip(priors, point, strict=True)
    }
    return msgspec.structs.replace(base, **values)
