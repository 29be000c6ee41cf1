"""All-reduce curves with their switches: a library changes protocol and algorithm with the size.

NCCL sends small messages by a protocol that is quick and narrow (LL: half of what it sends are
flags), large ones by one that is slow to start and wide (Simple), and on switches that add
(NVLink SHARP) the largest by another algorithm. Each stretch is a ring of its own latency and
bandwidth; where one ends is not fitted but follows from NCCL's published cost table, because the
library decides by that table and not by what its protocols really take.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import CalibrationError
from analyzer.timing.kernels.common import Array
from calibration.operators_collectives import LEAST_SIZES, NOISE, Curve, fit_curve

START_S = 1.8e-6
"""By which NCCL's table (tuning.cc, ring) lets Simple start later than LL: 8.4 less 6.6 us."""
STEP_S = 2.8e-6
"""And what it adds for each step over NVLink: 3.4 less 0.6 us."""
LL_SHARE, LL_SURE = 0.5, 0.3
"""What the narrow protocol reaches of the wide one's bandwidth: half, by that table; and how sure
that is (in logarithms)."""
BASE_SHARE, BASE_SURE = 0.5, 0.7
"""The same for its latency beside the floor that small messages show."""
OFF_RULE = 10.0
"""What it costs to cut where the table says otherwise, per octave."""
LEAST_STRETCH = 2
"""Measured sizes below which a stretch is not told from its neighbour."""


class Staged(NamedTuple):
    """Curves one after the other, and the payloads at which one hands over to the next."""

    curves: tuple[Curve, ...]
    ends_B: tuple[float, ...]

    def which(self, payload_B: Array) -> NDArray[np.intp]:
        """Which curve a payload is on."""
        place: NDArray[np.intp] = np.searchsorted(np.asarray(self.ends_B), payload_B, side="left")
        return place

    def seconds(self, payload_B: Array) -> Array:
        """The closed form of the curve that each payload is on."""
        payload = np.asarray(payload_B, dtype=float)
        each = np.stack([curve.seconds(payload) for curve in self.curves])
        chosen: Array = np.take_along_axis(each, self.which(payload)[None, ...], axis=0)[0]
        return chosen


def handover_B(ranks: int, small: Curve, large: Curve) -> float:
    """Payload at which NCCL's table prefers the wide protocol, given both bandwidths."""
    if small.Bps >= large.Bps:
        return float("inf")
    steps = 2.0 * (ranks - 1.0)
    late_s = START_S + steps * STEP_S
    return late_s * ranks / (steps * (1.0 / small.Bps - 1.0 / large.Bps))


def fit_staged(
    ranks: int, payload_B: Array, seconds: Array, link_Bps: float, adding_switch: bool = False
) -> Staged:
    """The stretches that the measured sizes show, up to three where the switch can add."""
    if len(payload_B) < LEAST_SIZES:
        raise CalibrationError(f"{len(payload_B)} message sizes; a curve needs {LEAST_SIZES}")
    order = np.argsort(payload_B)
    sizes, times = payload_B[order], seconds[order]
    best: tuple[float, Staged] | None = None
    tried = product(_cuts(len(sizes), 3 if adding_switch else 2), (_line, _narrow))
    for cuts, small in tried:
        parts = np.split(np.arange(len(sizes)), cuts)
        stretches = [(sizes[part], times[part]) for part in parts]
        curves = _curves(ranks, stretches, link_Bps, small)
        meant = [
            _handover(ranks, left, right, at) for at, (left, right) in enumerate(pairwise(curves))
        ]
        bounds = [(sizes[cut - 1], sizes[cut] * 0.999) for cut in cuts]
        ends = tuple(
            float(np.clip(end_B, *room)) for end_B, room in zip(meant, bounds, strict=True)
        )
        staged = Staged(curves, ends)
        off = float(np.square(np.log(staged.seconds(sizes) / times)).sum())
        cost = len(sizes) * np.log(off + 1e-4) + 2.0 * _WEIGHT * len(cuts)
        if cuts:  # between algorithms the faster one is taken, and no table is asked
            cost += OFF_RULE * abs(float(np.log2(min(meant[0], 1e12) / ends[0])))
        if best is None or cost < best[0]:
            best = cost, staged
    if best is None:
        raise CalibrationError("no stretch has sizes enough")
    return best[1]


_WEIGHT = 2.0
"""Parameters that a further stretch costs: its latency and its bandwidth."""


def _cuts(count: int, most: int) -> Iterator[tuple[int, ...]]:
    yield ()
    for first in range(LEAST_STRETCH, count - LEAST_STRETCH + 1):
        yield (first,)
        if most > 2:
            for second in range(first + LEAST_STRETCH, count - LEAST_STRETCH + 1):
                yield first, second


def _handover(ranks: int, left: Curve, right: Curve, at: int) -> float:
    """Between protocols by NCCL's table; between algorithms where their times meet."""
    if at == 0:
        return handover_B(ranks, left, right)
    payloads = np.geomspace(1e3, 1e11, 2000)
    ahead = right.seconds(payloads) < left.seconds(payloads)
    return float(payloads[np.argmax(ahead)]) if ahead.any() else float("inf")


Fit = Callable[[int, Array, Array, float], Curve]


def _curves(
    ranks: int, stretches: Sequence[tuple[Array, Array]], link_Bps: float, small: Fit
) -> tuple[Curve, ...]:
    """The wide stretches as rings, the narrow one before them beside the first of these."""
    if len(stretches) == 1:
        return (_line(ranks, *stretches[0], link_Bps),)
    wide = tuple(_line(ranks, *stretch, link_Bps) for stretch in stretches[1:])
    return (small(ranks, *stretches[0], wide[0].Bps), *wide)


def _narrow(ranks: int, payload_B: Array, seconds: Array, wide_Bps: float) -> Curve:
    """Small messages: a floor, a latency and a bandwidth, the latter two with what is known."""
    from scipy.optimize import least_squares

    steps = 2.0 * (ranks - 1.0)
    floor_s = float(seconds.min()) / steps
    start = np.log([floor_s, BASE_SHARE * floor_s, LL_SHARE * wide_Bps])

    def curve(point: Array) -> Curve:
        floor, latency_s, Bps = (float(value) for value in np.exp(point))
        return Curve(ranks, latency_s, Bps, 0.0, floor)

    def off(point: Array) -> Array:
        fit = np.log(curve(point).seconds(payload_B) / seconds) / NOISE
        known = (point[1:] - start[1:]) / np.array([BASE_SURE, LL_SURE])
        return np.concatenate([fit, known])

    return curve(least_squares(off, start).x)


def _line(ranks: int, payload_B: Array, seconds: Array, link_Bps: float) -> Curve:
    """A stretch: with sizes enough a ramp as well, else latency and bandwidth alone."""
    if len(payload_B) >= LEAST_SIZES:
        return fit_curve(ranks, payload_B, seconds, link_Bps)
    steps = 2.0 * (ranks - 1.0)
    weights = 1.0 / seconds
    design = np.stack([np.ones_like(payload_B), steps * payload_B / ranks], axis=1)
    solution, *_ = np.linalg.lstsq(design * weights[:, None], seconds * weights, rcond=None)
    latency_s, slope = float(solution[0]), float(solution[1])
    if latency_s <= 0 or slope <= 0:
        slope = max(slope, 1.0 / (4.0 * link_Bps))
        latency_s = max(float(np.min(seconds - design[:, 1] * slope)), 1e-7)
    return Curve(ranks, latency_s / steps, 1.0 / slope, 0.0)
