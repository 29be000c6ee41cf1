"""Fits on measured collectives: one curve (a device, a rank count), or a device's parameters."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from analyzer.errors import CalibrationError
from analyzer.network.topology import FLOOR_SHARPNESS
from analyzer.timing.collectives import PARAMETERS, CollectiveParams, Fabric, collective_time
from analyzer.timing.kernels.common import Array, soft_max

LEAST_SIZES = 4
NOISE = 0.05


class Curve(NamedTuple):
    """What a ring of `ranks` needs to reproduce a measured all-reduce curve."""

    ranks: int
    latency_s: float
    """Of one step."""
    Bps: float
    ramp_s: float
    """Of one step."""
    floor_s: float = 0.0
    """What a step takes however little it carries."""

    def seconds(self, payload_B: Array) -> Array:
        """The closed form: 2(n−1) steps of payload/n."""
        sent_s = np.asarray(payload_B, dtype=float) / self.ranks / self.Bps
        step_s = self.latency_s + sent_s + np.sqrt(self.ramp_s * sent_s)
        if self.floor_s:
            step_s = soft_max(step_s, np.asarray(self.floor_s), FLOOR_SHARPNESS)
        total: Array = 2.0 * (self.ranks - 1.0) * step_s
        return total


def fit_curve(ranks: int, payload_B: Array, seconds: Array, link_Bps: float) -> Curve:
    """Latency, bandwidth and ramp of a ring all-reduce; `link_Bps` is only where it starts."""
    from scipy.optimize import least_squares

    if len(payload_B) < LEAST_SIZES:
        raise CalibrationError(f"{len(payload_B)} message sizes; a curve needs {LEAST_SIZES}")
    steps = 2.0 * (ranks - 1.0)
    start = np.log([seconds.min() / steps, 0.8 * link_Bps, 1e-6])
    low, high = start - np.log(1e4), start + np.log(1e4)

    def off(point: Array) -> Array:
        curve = Curve(ranks, *np.exp(point))
        return np.log(curve.seconds(payload_B) / seconds) / NOISE

    found = least_squares(off, start, bounds=(low, high), loss="soft_l1")
    return Curve(ranks, *(float(value) for value in np.exp(found.x)))


def every_other(payload_B: Array) -> Array:
    """Half of the sizes, the largest among them: true where to be fitted."""
    order = np.argsort(payload_B)[::-1]
    chosen = np.zeros(len(payload_B), dtype=bool)
    chosen[order[::2]] = True
    return chosen


class CollectiveFit(NamedTuple):
    """One device's parameters and how well they do on sizes that were held out."""

    params: CollectiveParams
    held_out_error: float
    rows: int


def fit_collective(
    kind: str,
    payload_B: Array,
    ranks: Array,
    seconds: Array,
    fabric: Fabric,
    algorithm: Any = "library",
) -> CollectiveFit:
    """Parameters for all rank counts together; the error is 5-fold over message sizes."""
    custom = algorithm in ("one_shot", "two_shot")
    names = ("custom_base_s", "custom_hop_s") if custom else ("base_s", "hop_s")
    free = (
        *names,
        "ramp_s",
        "link_eff",
        *(("multicast_eff", "multicast_base_s") if fabric.multicast else ()),
    )
    sizes = np.unique(payload_B)
    if len(sizes) < LEAST_SIZES:
        raise CalibrationError(f"{len(sizes)} message sizes; a fit needs {LEAST_SIZES}")
    fold = np.searchsorted(sizes, payload_B) % 5
    off = np.zeros(len(seconds))
    for held in np.unique(fold):
        train, test = fold != held, fold == held
        params = _solve(
            kind, payload_B[train], ranks[train], seconds[train], fabric, algorithm, free
        )
        predicted = collective_time(kind, payload_B[test], ranks[test], fabric, params, algorithm)
        off[test] = np.log(predicted / seconds[test])
    params = _solve(kind, payload_B, ranks, seconds, fabric, algorithm, free)
    return CollectiveFit(params, float(np.expm1(np.abs(off).mean())), len(seconds))


def _solve(
    kind: str,
    payload_B: Array,
    ranks: Array,
    seconds: Array,
    fabric: Fabric,
    algorithm: Any,
    free: tuple[str, ...],
) -> CollectiveParams:
    from scipy.optimize import least_squares

    high = np.log([PARAMETERS[name].high for name in free])
    low = np.log([max(PARAMETERS[name].low, PARAMETERS[name].high * 1e-5) for name in free])
    guess = {"ramp_s": 1e-5, "link_eff": 0.75, "multicast_eff": 0.7, "multicast_base_s": 3e-5}
    start = np.log([guess.get(name, 2e-6) for name in free])

    def params(point: Array) -> CollectiveParams:
        return CollectiveParams(**dict(zip(free, np.exp(point).tolist(), strict=True)))

    def off(point: Array) -> Array:
        predicted = collective_time(kind, payload_B, ranks, fabric, params(point), algorithm)
        return np.log(predicted / seconds) / NOISE

    steps = np.full(len(free), 1e-3)
    found = least_squares(off, start, bounds=(low, high), loss="soft_l1", diff_step=steps)
    return params(found.x)
