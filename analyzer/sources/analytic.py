"""The source that always answers: the roofline with fitted rates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from analyzer.errors import ConfigError
from analyzer.optable import OpTable
from analyzer.sources.base import Answer, Context, Source
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import time_ops

UNCALIBRATED = 0.3
"""Relative uncertainty of one operator under a guess of rates (op classes: 15 to 30 %)."""


@dataclass(frozen=True)
class Analytic:
    """Counted work over peaks times rates."""

    machine: Machine
    rates: Rates
    uncertainty: float = UNCALIBRATED
    notes: Mapping[str, int] = field(default_factory=dict)
    name: str = "analytic"

    def answer(self, table: OpTable) -> Answer:
        """Every operator has a time."""
        timed = time_ops(table, self.machine, self.rates)
        shape = (len(table.names), *table.shape)
        total = np.broadcast_to(timed.total_s, shape)
        repeat = np.broadcast_to(table.columns["repeat"], shape)
        seconds = np.where(repeat > 0, total / np.where(repeat > 0, repeat, 1.0), 0.0)
        return Answer(seconds, np.full(shape, self.uncertainty))


def build(context: Context) -> Source:
    """The context's rates; option `analytic` may give their uncertainty."""
    given = context.options.get("analytic", {})
    uncertainty = float(given.get("uncertainty", UNCALIBRATED))
    if not uncertainty >= 0:
        raise ConfigError(f"analytic: uncertainty must be 0 or more, not {uncertainty:g}")
    return Analytic(context.machine, context.rates, uncertainty)
