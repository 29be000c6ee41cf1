"""The machine that a promise needs: compute, memory, bandwidth, links, and which of them binds.

Two answers per figure. `alone`: the least that will do when everything else is without bound; no
machine can have less. `value`: the least in a machine whose figures are balanced, each as scarce as
the promises allow; a machine of exactly these figures keeps them, and with less of a figure that
binds it does not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.answer import settle
from analyzer.basis import Basis
from analyzer.errors import ConfigError
from analyzer.figures import COMPUTE, LINK_BPS, LINK_S, MEMORY_B, MEMORY_BPS, REQUIRED, Figure
from analyzer.memory import capacity, memory
from analyzer.model import Model
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.predict import GROWN, Prediction, behaviour, check_context, predict
from analyzer.requirements_solve import PROMISES, Solver, Strengths, least
from analyzer.resolve import check_plan
from analyzer.system import Device, Link, System
from analyzer.timing.machine import Machine, machine
from analyzer.workload import Workload

TIMED = tuple(figure for figure in REQUIRED if figure is not MEMORY_B)
"""What decides times; the capacity follows from what must be held."""


class Need(NamedTuple):
    """One figure of one device."""

    figure: str
    unit: str
    meaning: str
    value: float | None
    """In a balanced machine; None: the promises do not depend on it."""
    alone: float | None
    """With everything else without bound."""
    at_most: bool
    """True for latencies, which must not be larger."""
    binds: tuple[str, ...]
    """Promises that break with 1 % less of it."""


class Required(NamedTuple):
    """What a promise asks of each device of a plan."""

    model: Model
    plan: Plan
    workload: Workload
    arrival: str
    basis: Basis
    like: System
    """Whose proportions fill what was not asked: other formats, units, topology."""
    needs: tuple[Need, ...]
    binding: str
    """The figure of which 1 % less costs most."""
    system: System
    """A machine of exactly these figures."""
    prediction: Prediction
    """Of that machine."""

    def need(self, figure: str) -> Need:
        """One of the needs by name."""
        return next(each for each in self.needs if each.figure == figure)

    def share(self, system: System) -> dict[str, float]:
        """What a real system has of each figure, over what is needed; below 1 falls short."""
        mine, theirs = _values(machine(self.system), self), _values(machine(system), self)
        found = {}
        for need in self.needs:
            if need.value is not None:
                ratio = theirs[need.figure] / mine[need.figure]
                found[need.figure] = 1.0 / ratio if need.at_most else ratio
        return found


def require(
    model: Model,
    plan: Plan,
    load: Workload,
    basis: Basis,
    like: System,
    arrival: str = "static",
) -> Required:
    """The least machine that keeps `load.slo` under the plan; all devices are in one node."""
    slo = load.slo
    if slo is None or all(getattr(slo, name) is None for name in PROMISES):
        raise ConfigError("a requirement needs a promise: ttft, tpot or e2e")
    settled = settle(plan, model, basis, like)
    _check(settled, model, load)
    room_B = _room(model, settled, load, arrival)
    on, figures = _start(like, settled, room_B), _timed(settled)

    def times(strengths: Strengths) -> Prediction:
        moved = on
        for figure in figures:
            moved = figure.scaled(moved, _factor(figure, strengths[figure.name]))
        return predict(model, like, settled, load, basis.rates, arrival, on=moved, strict=False)

    solver = Solver(figures, times, load)
    alone = solver.alone()
    held = solver.balanced(alone)
    broken = {figure.name: solver.broken(figure.name, held) for figure in figures}
    system = _built(like, settled, held, room_B)
    found = predict(model, system, settled, load, basis.rates, arrival)
    named = _binding(broken)
    asked = Required(model, settled, load, arrival, basis, like, (), named, system, found)
    return asked._replace(needs=_needs(asked, alone, broken, on, room_B))


def _check(plan: Plan, model: Model, load: Workload) -> None:
    check_context(model, load)
    device = Device(name="any", peak_flops={"fp32": 1.0}, memory_B=1.0, memory_bandwidth_Bps=1.0)
    link = Link(name="any", bandwidth_Bps=1.0, latency_s=1.0)
    check_plan(
        plan, model, System(name="any", device=device, devices_per_node=1 << 20, intra_node=link)
    )


def _timed(plan: Plan) -> tuple[Figure, ...]:
    """A lone device has no links that count."""
    return TIMED if plan.tp * plan.pp > 1 else TIMED[:2]


def _room(model: Model, plan: Plan, load: Workload, arrival: str) -> float:
    """Bytes of a device in which everything asked for fits at once."""
    laid, kind = lay(model, plan), behaviour(plan)
    used_B = float(np.max(memory(laid, load).total_B))
    batch = float(np.max(np.asarray(load.batch)))

    def fits(size_B: float) -> bool:
        share_B = size_B * kind.memory_share
        return float(np.min(capacity(laid, load, share_B, GROWN[arrival]))) >= batch

    high = used_B * 4.0
    while not fits(high):
        high *= 2.0
    return max(least(fits, used_B / 2.0, high), used_B)


def _start(like: System, plan: Plan, room_B: float) -> Machine:
    """The example's proportions, with all devices in one node and nothing in between them."""
    on = machine(like)
    fabric = on.fabric
    if not np.isfinite(fabric.link_Bps):
        fabric = msgspec.structs.replace(fabric, link_Bps=1e9)
    if not fabric.link_latency_s:
        fabric = msgspec.structs.replace(fabric, link_latency_s=1e-6)
    alone = {"pair_Bps": np.inf, "shared_Bps": np.inf, "through_host": False}
    near = msgspec.structs.replace(
        fabric, devices_per_node=float(plan.tp * plan.pp * plan.dp), **alone
    )
    return on._replace(memory_B=room_B, fabric=near)


def _factor(figure: Figure, strength: float) -> float:
    return strength if figure.more_is_better else 1.0 / strength


def _binding(broken: dict[str, dict[str, float]]) -> str:
    worst = {name: max(found.values()) for name, found in broken.items() if found}
    return max(worst, key=worst.__getitem__) if worst else MEMORY_B.name


def _values(on: Machine, asked: Required) -> dict[str, float]:
    """A machine's figures, compute in the format that the plan's linear layers compute in."""
    code = int(np.asarray(lay(asked.model, asked.plan).layout.compute))
    return {
        COMPUTE.name: float(on.peak_vector[code]),
        MEMORY_BPS.name: float(on.memory_Bps),
        MEMORY_B.name: float(on.memory_B),
        LINK_BPS.name: float(on.fabric.link_Bps),
        LINK_S.name: float(on.fabric.link_latency_s) or math.ulp(0.0),
    }


def _needs(
    asked: Required,
    alone: dict[str, float | None],
    broken: dict[str, dict[str, float]],
    on: Machine,
    room_B: float,
) -> tuple[Need, ...]:
    usual, mine = _values(on, asked), _values(machine(asked.system), asked)
    needs = []
    for figure in REQUIRED:
        about = (figure.name, figure.unit, figure.meaning)
        if figure is MEMORY_B:
            needs.append(Need(*about, room_B, room_B, False, ("room",)))
            continue
        lowest = alone.get(figure.name)
        ends: tuple[float | None, float | None] = (None, None)
        if lowest is not None:
            ends = (mine[figure.name], usual[figure.name] * _factor(figure, lowest))
        binds = tuple(broken.get(figure.name, ()))
        needs.append(Need(*about, *ends, not figure.more_is_better, binds))
    return tuple(needs)


def _built(like: System, plan: Plan, held: Strengths, room_B: float) -> System:
    """The machine as a system of its own."""
    fabric, devices = _start(like, plan, room_B).fabric, int(plan.tp * plan.pp * plan.dp)
    compute = held[COMPUTE.name]
    device = Device(
        name="required",
        kind=like.device.kind,
        peak_flops={name: peak * compute for name, peak in like.device.peak_flops.items()},
        vector_flops=like.device.vector_peak * compute,
        memory_B=room_B,
        memory_bandwidth_Bps=like.device.memory_bandwidth_Bps * held[MEMORY_BPS.name],
        units=like.device.units,
    )
    joined = None
    if devices > 1:
        joined = Link(
            name="required",
            bandwidth_Bps=float(fabric.link_Bps) * held.get(LINK_BPS.name, 1.0),
            latency_s=float(fabric.link_latency_s) / held.get(LINK_S.name, 1.0),
            topology=fabric.topology,
            multicast=fabric.multicast,
        )
    return System(name="required", device=device, devices_per_node=devices, intra_node=joined)
