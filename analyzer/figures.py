"""The figures of a machine that decide a prediction, one by one: to invert them, and to shake them.

Each figure knows how to change a `Machine` and what it is called; all else stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from analyzer.timing.machine import Machine


class Figure(NamedTuple):
    """One figure: its unit, its meaning, and the machine with it times a factor."""

    name: str
    unit: str
    meaning: str
    scaled: Callable[[Machine, float], Machine]
    more_is_better: bool = True


def _peaks(on: Machine, factor: float) -> Machine:
    return on._replace(peak_vector=on.peak_vector * factor)


def _vector(on: Machine, factor: float) -> Machine:
    return on._replace(vector_flops=on.vector_flops * factor)


def _compute(on: Machine, factor: float) -> Machine:
    return _vector(_peaks(on, factor), factor)


def _memory_Bps(on: Machine, factor: float) -> Machine:
    return on._replace(memory_Bps=on.memory_Bps * factor)


def _memory_B(on: Machine, factor: float) -> Machine:
    return on._replace(memory_B=on.memory_B * factor)


def _units(on: Machine, factor: float) -> Machine:
    return on._replace(units=on.units * factor)


def _fabric(*names: str) -> Callable[[Machine, float], Machine]:
    def scaled(on: Machine, factor: float) -> Machine:
        given = {name: getattr(on.fabric, name) for name in names}
        more = {name: value * factor for name, value in given.items() if value is not None}
        return on._replace(fabric=msgspec.structs.replace(on.fabric, **more))

    return scaled


COMPUTE = Figure("compute", "FLOP/s", "dense peak, vector units in step with it", _compute)
MEMORY_BPS = Figure("memory_bandwidth", "B/s", "bandwidth of the device's memory", _memory_Bps)
MEMORY_B = Figure("memory", "B", "capacity of the device's memory", _memory_B)
LINK_BPS = Figure(
    "link_bandwidth", "B/s", "of a device to its node, each way",
    _fabric("link_Bps", "pair_Bps", "shared_Bps"),
)  # fmt: skip
LINK_S = Figure("link_latency", "s", "of one hop in the node", _fabric("link_latency_s"), False)
NET_BPS = Figure("network_bandwidth", "B/s", "of a device between nodes", _fabric("net_Bps"))
NET_S = Figure("network_latency", "s", "of one hop between nodes", _fabric("net_latency_s"), False)
PEAKS = Figure("compute", "FLOP/s", "dense peak of the matrix units", _peaks)
VECTOR = Figure("vector_compute", "FLOP/s", "fp32 peak of the vector units", _vector)
UNITS = Figure("units", "", "independent processors, at the same peaks", _units)

REQUIRED = (COMPUTE, MEMORY_BPS, MEMORY_B, LINK_BPS, LINK_S)
"""What a platform is asked for."""
SHAKEN = (PEAKS, VECTOR, MEMORY_BPS, MEMORY_B, UNITS, LINK_BPS, LINK_S, NET_BPS, NET_S)
"""What a sensitivity analysis moves."""
