"""Counted phases to seconds: steps through the pipeline, averaged over the context, added up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.phases import SHARES, CountedStep
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import OpTimes, StepTime, Table, time_step

Array = NDArray[np.float64]


class Part(NamedTuple):
    """One timed table of a phase and how often it runs."""

    table: Table
    ops: tuple[OpTimes, ...]
    """Of each block of the table; one where it has no blocks."""
    times: Any
    quadrature: bool


class Phase(NamedTuple):
    """Seconds of a phase and where they went, shape (*scenarios)."""

    total_s: Array
    device_s: Array
    network_s: Array
    host_s: Array
    parts: tuple[Part, ...] = ()
    fetch_s: Any = 0.0
    """Waiting for weights or cache that lie beside the device; part of `total_s`."""

    def plus(self, other: Phase) -> Phase:
        """Both phases, one after the other."""
        return Phase(
            self.total_s + other.total_s,
            self.device_s + other.device_s,
            self.network_s + other.network_s,
            self.host_s + other.host_s,
            self.parts + other.parts,
            self.fetch_s + other.fetch_s,
        )


def time_phase(steps: Sequence[CountedStep], machine: Machine, rates: Rates) -> Phase:
    """Time all steps of a phase."""
    phase = _time_counted(steps[0], machine, rates)
    for step in steps[1:]:
        phase = phase.plus(_time_counted(step, machine, rates))
    return phase


def time_prefill(steps: Sequence[CountedStep], machine: Machine, rates: Rates) -> Phase:
    """Time to the first token: the phase, and what the engine spends before it."""
    phase = time_phase(steps, machine, rates)
    return phase._replace(
        total_s=phase.total_s + rates.prefill_s, host_s=phase.host_s + rates.prefill_s
    )


def issuing(rates: Rates) -> Rates:
    """Rates of prompts in a serving engine: their passes differ in shape and are not replayed as
    graphs, so the host issues every kernel of them."""
    launch_s = np.maximum(rates.host_launch_s, rates.prefill_launch_s)
    return msgspec.structs.replace(rates, host_launch_s=launch_s)


def _time_counted(step: CountedStep, machine: Machine, rates: Rates) -> Phase:
    last = len(step.tables) - 1
    known: dict[tuple[int, bool], StepTime] = {}
    timed = []
    for index, table in enumerate(step.tables):
        ends = index == last
        key = (id(table), ends)  # like stages share one table
        if key not in known:
            known[key] = time_step(
                table, machine, rates, step.sequences, ends, step.overlap, step.hidden
            )
        timed.append(known[key])
    lone = not last and np.ndim(step.hops) == 0 and step.hops == 0.0
    through = _alone(timed[0]) if lone else _pipeline(step, timed, machine)
    parts = tuple(
        Part(table, stage.ops, step.times * step.overlap, step.quadrature)
        for table, stage in zip(step.tables, timed, strict=True)
    )
    whole = (integrated(values) if step.quadrature else values for values in through[:4])
    fed = step.saved - np.where(rates.launch_s > 0.0, step.unfed, 0.0)  # free kernels never queue
    times = step.times - rates.stream_overlap * fed
    total_s, device_s, network_s, host_s = (values * times for values in whole)
    return Phase(total_s, device_s, network_s, host_s, parts)


def _alone(stage: StepTime) -> Phase:
    return Phase(stage.total_s, stage.device_s, stage.network_s, stage.host_s)


def _pipeline(step: CountedStep, stages: list[StepTime], machine: Machine) -> Phase:
    """Stages one after the other; further micro-batches follow at the pace of the slowest."""
    hops_s = step.hops * machine.hop_s(step.hop_B, step.hop_stride)
    device_s = np.add.reduce([stage.device_s for stage in stages])
    network_s = np.add.reduce([stage.network_s for stage in stages])
    host_s = np.add.reduce([stage.host_s for stage in stages])
    slowest_s = np.maximum.reduce([np.asarray(stage.total_s) for stage in stages])
    through_s = np.add.reduce([stage.total_s for stage in stages]) + hops_s
    if step.per_token:
        through_s = np.maximum(through_s, step.pieces * slowest_s)
    else:
        through_s = through_s + (step.pieces - 1.0) * slowest_s
    return Phase(through_s, device_s, network_s + hops_s, host_s)


def integrated(values: Array) -> Array:
    """Integrate out the leading quadrature axis."""
    full = np.shape(values)
    if full[:1] != (len(SHARES),):
        values = np.broadcast_to(values, (len(SHARES), *full))
    mean: Array = reduce(add, (share * at for share, at in zip(SHARES, values, strict=True)))
    return mean
