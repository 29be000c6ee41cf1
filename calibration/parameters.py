"""What a fit may change: which rates, in which scale, with which prior.

A prior says what is believed of a machine before any of its own measurements; what the data cannot
tell stays there. The generic priors below are wide. Those of an engine class are narrower: they are
the spread of the rates over the systems that the class was calibrated on (see `families.py`).
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import CalibrationError, nearest
from analyzer.timing.rates import PARAMETERS, Rates

Array = NDArray[np.float64]

LINEAR = frozenset({"gqa_exponent", "interference", "wave_loss"})
"""Fitted as they are; all others by their logarithm, since they are ratios or times."""


class Prior(msgspec.Struct, frozen=True, kw_only=True):
    """A normal belief about one rate, in its fitting scale (logarithm unless LINEAR)."""

    name: str
    centre: float
    width: float

    @property
    def value(self) -> float:
        """The centre, as a rate."""
        return self.centre if self.name in LINEAR else float(np.exp(self.centre))


def prior(name: str, value: float, width: float) -> Prior:
    """A belief centred on `value`, with `width` in the fitting scale."""
    centre = value if name in LINEAR else float(np.log(value))
    return Prior(name=name, centre=centre, width=width)


GENERIC: dict[str, Prior] = {
    entry.name: entry
    for entry in (
        prior("gemm_eff_32", 0.6, 0.5),
        prior("gemm_eff_16", 0.65, 0.35),
        prior("gemm_eff_8", 0.5, 0.4),
        prior("gemm_eff_4", 0.4, 0.5),
        prior("gemm_half", 15.0, 0.7),
        prior("wave_loss", 0.4, 0.3),
        prior("expert_eff", 0.8, 0.3),
        prior("attention_eff", 0.35, 0.5),
        prior("attention_half", 200.0, 1.0),
        prior("mem_eff", 0.75, 0.25),
        prior("mem_eff_8", 0.65, 0.35),
        prior("mem_eff_4", 0.75, 0.4),
        prior("kv_eff", 0.6, 0.4),
        prior("kv_splits", 8.0, 1.5),
        prior("kv_narrow_eff", 0.7, 0.5),
        prior("gqa_exponent", 0.25, 0.3),
        prior("vector_eff", 0.5, 0.4),
        prior("sharpness", 3.0, 0.6),
        prior("launch_s", 2e-6, 1.0),
        prior("host_launch_s", 5e-6, 1.5),
        prior("step_s", 2e-3, 1.5),
        prior("sequence_s", 3e-5, 1.5),
        prior("prefill_s", 5e-3, 1.5),
        prior("burst", 0.1, 1.0),
        prior("interference", 1.0, 0.3),
        prior("collective_s", 8e-6, 1.0),
        prior("link_eff", 0.6, 0.5),
    )
}


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
