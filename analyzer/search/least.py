"""The smallest deployment that holds a model at all: no promise of speed, only room."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.answer import settle
from analyzer.basis import uncalibrated
from analyzer.errors import CapacityError
from analyzer.memory import capacity, memory
from analyzer.model import Model
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.resolve import activation_format
from analyzer.search.layouts import Ranks, layouts
from analyzer.search.question import Space
from analyzer.system import System
from analyzer.workload import Workload

MOST = 4096
"""Devices beyond which nobody looks."""


class Smallest(NamedTuple):
    """The layout on fewest devices, and what it leaves."""

    devices: int
    ranks: Ranks
    memory_B: float
    """Of the fullest device, with the sequences asked for."""
    sequences: float
    """Most that fit at their full length."""


def fewest_devices(
    model: Model,
    system: System,
    weights: str = "",
    load: Workload | None = None,
    most: int | None = None,
    share: float = 1.0,
    even: bool = True,
) -> Smallest:
    """Fewest devices whose memory holds the model and `load.batch` sequences (one of 1,152).

    `share` is what an engine uses of the memory. With `even`, only layouts that serving engines
    take: ranks and stages that are powers of two; without, any that heads and layers allow.
    """
    asked = load or Workload()
    limit = int(min(most or MOST, system.max_devices))
    base = _base(model, weights)
    for count in range(1, limit + 1):
        for ranks in _of(model, system, count, even):
            plan = msgspec.structs.replace(
                base, tp=ranks.tp, pp=ranks.pp, ep=ranks.ep, attention_dp=ranks.attention_dp
            )
            laid = lay(model, plan)
            fits = float(np.min(capacity(laid, asked, system.device.memory_B * share)))
            if fits >= float(np.max(np.asarray(asked.batch))):
                held = float(np.max(memory(laid, asked).total_B))
                return Smallest(count, ranks, held, float(np.floor(fits)))
    raise CapacityError(f"{model.name} does not fit {limit} devices of {system.name}")


def _base(model: Model, weights: str) -> Plan:
    stored = weights or model.native_weights
    plan = Plan(weights=stored, activations=activation_format(stored))
    return settle(plan, model, uncalibrated())


def _of(model: Model, system: System, count: int, even: bool) -> tuple[Ranks, ...]:
    """Layouts of exactly `count` devices, tensor parallelism first."""
    cuts = [tp for tp in range(count, 0, -1) if count % tp == 0]
    if even:
        cuts = [tp for tp in cuts if _power(tp) and _power(count // tp)]
    # Whole experts on their ranks: cutting one up saves no memory, dealing them out costs none.
    found: list[Ranks] = []
    for tp in cuts:
        space = Space(tp=(tp,), pp=(count // tp,), ep=(1,), attention_dp=(1,))
        if count // tp <= len(model.layers):
            found += layouts(model, system, space, count).legal
    return tuple(found)


def _power(number: int) -> bool:
    return number & (number - 1) == 0
