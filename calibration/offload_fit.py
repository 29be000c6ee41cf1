"""Fit the rates of an offload forecast to measured seconds, in log space.

Rates are positive and errors relative, so both are fitted as logarithms: no rate can turn
negative, and a slow run counts no more than a quick one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import NotIdentifiable
from analyzer.offload_machine import OffloadMachine

WIDEST = np.log(1e3)  # how far a rate may move from where the fit starts

Predict = Callable[[OffloadMachine], float]


@dataclass(frozen=True)
class Observation:
    """A measured positive figure and what predicts it from a machine."""

    measured: float
    predict: Predict


@dataclass(frozen=True)
class OffloadFit:
    """The machine with fitted rates, and log errors (predicted over measured) of the data.

    `unbounded` names rates that turned out too fast to be ever waited for: what is given for
    them is only known to be fast enough.
    """

    machine: OffloadMachine
    errors: NDArray[np.float64]
    unbounded: tuple[str, ...] = ()

    @property
    def geomean_error(self) -> float:
        """Typical relative error: exp(mean |log error|) - 1."""
        return geomean_error(self.errors)


def geomean_error(errors: Sequence[float] | NDArray[np.float64]) -> float:
    """exp(mean |log error|) - 1."""
    return float(np.expm1(np.mean(np.abs(errors))))


def log_errors(machine: OffloadMachine, data: Sequence[Observation]) -> NDArray[np.float64]:
    """log(predicted / measured) of every observation."""
    return np.array([np.log(each.predict(machine) / each.measured) for each in data])


def fit_machine(
    start: OffloadMachine, names: Sequence[str], data: Sequence[Observation]
) -> OffloadFit:
    """Fit the named rates, starting from those of `start`; the others stay as they are."""
    from scipy.optimize import least_squares

    if len(data) < len(names):
        raise NotIdentifiable(f"{len(data)} observations cannot determine {len(names)} rates")

    def machine(logs: NDArray[np.float64]) -> OffloadMachine:
        return replace(start, **dict(zip(names, np.exp(logs).tolist(), strict=True)))

    def errors(logs: NDArray[np.float64]) -> NDArray[np.float64]:
        return log_errors(machine(logs), data)

    first = np.log([getattr(start, name) for name in names])
    steps = 0.1 * np.eye(len(names))
    slopes = np.array([errors(first + step) - errors(first - step) for step in steps]).T
    for name in _silent(slopes, names):
        raise NotIdentifiable(f"the data do not depend on {name}: leave it out of the fit")
    box = (first - WIDEST, first + WIDEST)
    found = least_squares(errors, first, bounds=box, loss="soft_l1", f_scale=0.1)
    best = machine(found.x)
    silent = _silent(found.jac, names)
    return OffloadFit(best, log_errors(best, data), tuple(silent))


def _silent(slopes: object, names: Sequence[str]) -> list[str]:
    """Rates that no observation reacts to."""
    reaction = np.abs(np.asarray(slopes, dtype=float)).max(axis=0)
    return [name for name, slope in zip(names, reaction, strict=True) if slope < 1e-6]
