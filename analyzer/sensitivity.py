"""What a better part would buy: each figure and each rate moved alone, and what metrics answer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.answer import Answer, answer
from analyzer.basis import Basis
from analyzer.errors import ConfigError
from analyzer.figures import SHAKEN, Figure
from analyzer.model import Model
from analyzer.plan import Plan
from analyzer.predict import Prediction, predict
from analyzer.system import System
from analyzer.timing.machine import Machine, machine
from analyzer.timing.rates import PARAMETERS, Rates
from analyzer.workload import Workload

METRICS = ("ttft_s", "tpot_s", "e2e_s", "total_tok_s", "energy_J_per_token", "max_batch")
HAIR = 1e-4
"""Half the step, in logs, of the derivative."""
SPREAD = 0.1


class Effect(NamedTuple):
    """One figure or rate, moved down and up."""

    name: str
    kind: str
    """'figure' of the system, or 'rate' of the software on it."""
    unit: str
    meaning: str
    low: float
    """Factor that it was moved down by."""
    high: float
    at_low: dict[str, float]
    """Relative change of each metric; NaN where the plan no longer runs."""
    at_high: dict[str, float]
    elasticity: dict[str, float]
    """d ln metric / d ln figure: -1 where the metric falls as the figure rises."""
    limited: bool = False
    """True where a bound of the rate stopped it short."""

    def width(self, metric: str) -> float:
        """How far the metric swings."""
        ends = (self.at_low[metric], self.at_high[metric])
        return max(abs(end) if end == end else math.inf for end in ends)


class Sensitivity(NamedTuple):
    """All effects around one answer."""

    base: Answer
    spread: float
    effects: tuple[Effect, ...]

    def tornado(self, metric: str, least: float = 1e-6) -> list[Effect]:
        """Effects on one metric, the widest first; those that move nothing left out."""
        if metric not in METRICS:
            raise ConfigError(f"metric {metric!r} is unknown; use one of {', '.join(METRICS)}")
        moving = [effect for effect in self.effects if effect.width(metric) > least]
        return sorted(moving, key=lambda effect: -effect.width(metric))


_Ask = Callable[[Machine, Rates], Prediction]


def sensitivity(
    model: Model,
    system: System,
    plan: Plan,
    load: Workload,
    basis: Basis,
    arrival: str = "static",
    spread: float = SPREAD,
) -> Sensitivity:
    """Move every figure and every rate by `spread` (0.1: ±10 %) and predict anew each time."""
    if not 0.0 < spread < 1.0:
        raise ConfigError(f"the spread must lie between 0 and 1, not {spread:g}")
    base = answer(model, system, plan, load, basis, arrival)
    on = machine(system)

    def ask(moved: Machine, rates: Rates) -> Prediction:
        settled = base.plan
        return predict(model, system, settled, load, rates, arrival, on=moved, strict=False)

    usual = _metrics(ask(on, basis.rates))
    figures = [_figure(figure, on, basis.rates, ask, usual, spread) for figure in SHAKEN]
    rates = [
        _rate(name, on, basis.rates, ask, usual, spread)
        for name in PARAMETERS
        if getattr(basis.rates, name) != 0.0
    ]
    return Sensitivity(base, spread, (*figures, *rates))


def _figure(
    figure: Figure,
    on: Machine,
    rates: Rates,
    ask: _Ask,
    usual: dict[str, float],
    spread: float,
) -> Effect:
    def at(factor: float) -> dict[str, float]:
        return _metrics(ask(figure.scaled(on, factor), rates))

    ends = (1.0 - spread, 1.0 + spread)
    return _effect(figure.name, "figure", figure.unit, figure.meaning, ends, at, usual)


def _rate(
    name: str, on: Machine, rates: Rates, ask: _Ask, usual: dict[str, float], spread: float
) -> Effect:
    entry, value = PARAMETERS[name], float(getattr(rates, name))

    def at(factor: float) -> dict[str, float]:
        return _metrics(ask(on, msgspec.structs.replace(rates, **{name: value * factor})))

    # A rate beyond its bounds is no rate: a share of the peak ends at 1.
    low = max(1.0 - spread, min(entry.low / value, 1.0))
    high = min(1.0 + spread, max(entry.high / value, 1.0))
    effect = _effect(name, "rate", entry.unit, entry.meaning, (low, high), at, usual)
    return effect._replace(limited=low > 1.0 - spread or high < 1.0 + spread)


def _effect(
    name: str,
    kind: str,
    unit: str,
    meaning: str,
    ends: tuple[float, float],
    at: Callable[[float], dict[str, float]],
    usual: dict[str, float],
) -> Effect:
    below, above = at(math.exp(-HAIR)), at(math.exp(HAIR))
    slope = {
        metric: math.log(above[metric] / below[metric]) / (2 * HAIR)
        if above[metric] > 0 and below[metric] > 0
        else float("nan")
        for metric in usual
    }
    low, high = (
        {metric: found[metric] / usual[metric] - 1.0 for metric in usual}
        for found in (at(end) for end in ends)
    )
    return Effect(name, kind, unit, meaning, ends[0], ends[1], low, high, slope)


def _metrics(found: Prediction) -> dict[str, float]:
    values = {name: getattr(found, name) for name in METRICS}
    return {
        name: float("nan") if value is None else float(np.asarray(value))
        for name, value in values.items()
    }
