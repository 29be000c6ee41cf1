"""What measured machines say of one that was not: every rate of every (system, engine) is a draw of
one population, and two draws are the more alike the more the two have in common.

Each rate is the generic prior plus parts that are shared by those with the same engine, by engines
of one family on one maker's devices, by engines of one character, by like devices, by like hosts,
and a part of its own. Two parts are trends over data-sheet figures that hold for all GPUs: the
share of the memory's bandwidth that kernels reach falls with the bytes that each processor has to
keep in flight, and the share of the arithmetic peak falls with the arithmetic per watt. What the
measured ones imply for another is then a weighted mean with an uncertainty (a Gaussian process);
a measured one that fits in nowhere speaks more quietly.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.engines import engine
from analyzer.priors import GENERIC, LINEAR, Prior
from analyzer.relatives import FILE, HARDWARE, Relative, read_relatives
from analyzer.system import Device
from analyzer.timing.rates import PARAMETERS

Array = NDArray[np.float64]

ANY, ENGINE, FAMILY, MAKER, CHARACTER, HOST, DEVICE, OWN, TREND = (
    0.1, 1.0, 0.1, 1.0, 0.3, 0.3, 0.1, 0.3, 2.0,
)  # fmt: skip
"""Variances of the parts, in squared widths of the generic prior. A fifth or five times of any
of them moves the error of systems left out by less than two points: the data ask for no more."""
STREAMED = frozenset({"mem_eff", "mem_eff_8", "mem_eff_4", "kv_eff"})
"""Rates with a trend over bytes per processor and clock."""
MULTIPLIED = frozenset(
    {"gemm_eff_16", "gemm_eff_8", "gemm_eff_4", "gemm_eff_block", "attention_eff"}
)
"""Rates with a trend over arithmetic per watt: what cannot be fed with power is not reached."""
ISSUED = frozenset(
    {
        "host_launch_s",
        "prefill_launch_s",
        "step_s",
        "sequence_s",
        "prefill_s",
        "token_s",
        "launch_s",
        "cold_s",
    }
)
"""Rates that are the host's as much as the engine's."""
PROCESSORS = frozenset({"linear_s"})
"""Rates that only processors have."""
OF_DEVICES = HARDWARE | STREAMED | MULTIPLIED
BYTES_PER_CLOCK = 9.0
"""Bytes per processor and clock at which the generic prior is meant."""
FLOPS_PER_J = 0.8e12
"""16-bit operations per joule at which it is meant."""
USUAL_CLOCK_Hz = 1.6e9
STACKED_Bps = 1.2e12
"""Bandwidth above which memory is stacked."""
LEAST_SHARE = 0.05
"""Relatives whose own data said less about a rate than this are not asked."""
LOUDEST = 2.5
"""Deviations from what the others imply at which a measured one begins to be doubted."""
WIDE = ("bf16", "fp16", "tf32", "fp32")


class Traits(NamedTuple):
    """What is compared of a device with an engine."""

    engine: str
    family: str
    character: tuple[bool, bool, bool]
    vendor: str
    market: str
    stacked: bool
    bandwidth: float
    arithmetic: float
    """Logarithms, as the two that follow."""
    bytes_per_clock: float
    flops_per_joule: float


def traits(device: Device, engine_class: str) -> Traits:
    """Of a device and an engine by name ("" for none in particular)."""
    kind = engine(engine_class)
    arithmetic = _arithmetic(device)
    streamed = multiplied = 0.0
    if device.kind == "gpu":
        clock = device.clock_Hz or USUAL_CLOCK_Hz
        each = device.memory_bandwidth_Bps / (device.units * clock)
        streamed = float(np.log(each / BYTES_PER_CLOCK)) if device.units > 1 else 0.0
        multiplied = (
            float(np.log(arithmetic / (device.tdp_W * FLOPS_PER_J))) if device.tdp_W else 0.0
        )
    return Traits(
        engine=engine_class,
        family=kind.family,
        character=(kind.fused, kind.flash, kind.graphs),
        vendor=device.vendor.lower(),
        market=device.market or device.kind,
        stacked=device.memory_bandwidth_Bps > STACKED_Bps,
        bandwidth=float(np.log(device.memory_bandwidth_Bps)),
        arithmetic=float(np.log(arithmetic)),
        bytes_per_clock=streamed,
        flops_per_joule=multiplied,
    )


def _arithmetic(device: Device) -> float:
    wide = [flops for dtype, flops in device.peak_flops.items() if dtype in WIDE]
    return max(wide or device.peak_flops.values())


class Shared(NamedTuple):
    """What each of some has in common with each of others; shape (some, others)."""

    engine: Array
    family: Array
    maker: Array
    character: Array
    market: Array
    device: Array
    bytes_per_clock: Array
    flops_per_joule: Array

    def covariance(self, name: str) -> Array:
        """Of one rate, in squared widths of its generic prior, without the part of its own."""
        found = ENGINE * self.engine + FAMILY * self.family + CHARACTER * self.character
        found = found + MAKER * self.maker * self.family + DEVICE * self.device * self.family
        if name in OF_DEVICES:
            found = found + ANY + DEVICE * self.device
        if name in ISSUED:
            found = found + HOST * self.market * (self.family + self.character)
        if name in STREAMED:
            found = found + TREND * self.bytes_per_clock
        if name in MULTIPLIED:
            found = found + TREND * self.flops_per_joule
        return found


def shared(some: Sequence[Traits], others: Sequence[Traits]) -> Shared:
    """Compare each with each."""

    def same(name: str) -> Array:
        left = [getattr(one, name) for one in some]
        right = [getattr(one, name) for one in others]
        return np.array([[float(a == b) for b in right] for a in left]).reshape(
            len(left), len(right)
        )

    def column(name: str, of: Sequence[Traits]) -> Array:
        return np.array([getattr(one, name) for one in of], dtype=np.float64)

    def gap(name: str) -> Array:
        return column(name, some)[:, None] - column(name, others)[None, :]

    def product(name: str) -> Array:
        return column(name, some)[:, None] * column(name, others)[None, :]

    maker = same("vendor")
    near = np.exp(-0.5 * gap("bandwidth") ** 2 - 0.125 * gap("arithmetic") ** 2)
    return Shared(
        engine=same("engine"),
        family=same("family"),
        maker=maker,
        character=same("character"),
        market=same("market"),
        device=near * maker * (0.5 + 0.5 * same("stacked")),
        bytes_per_clock=product("bytes_per_clock"),
        flops_per_joule=product("flops_per_joule"),
    )


def had(device: Device, engine_class: str) -> list[str]:
    """Names of the rates that an engine has on a device: no host issues what graphs replay, and
    only processors have those of PROCESSORS."""
    without = set() if device.kind == "cpu" else set(PROCESSORS)
    if engine(engine_class).graphs:
        without.add("host_launch_s")
    return [name for name in GENERIC if name not in without]


class Heard(NamedTuple):
    """What the measured ones say of one rate, ready to be asked of any device and engine."""

    who: NDArray[np.intp]
    pull: Array
    """Weight of each one's likeness in the mean."""
    precision: Array


class Kin(NamedTuple):
    """All measured (system, engine)s, compared with each other once."""

    relatives: tuple[Relative, ...]
    traits: tuple[Traits, ...]
    heard: Mapping[str, Heard]

    def believe(self, device: Device, engine_class: str) -> list[Prior]:
        """What is believed of every rate of an engine on a device."""
        asked = traits(device, engine_class)
        likeness, alone = shared([asked], self.traits), shared([asked], [asked])
        return [self._of(name, likeness, alone) for name in had(device, engine_class)]

    def _of(self, name: str, likeness: Shared, alone: Shared) -> Prior:
        generic, heard = GENERIC[name], self.heard.get(name)
        if heard is None:
            return generic
        with_each = likeness.covariance(name)[0, heard.who]
        variance = float(alone.covariance(name)[0, 0]) + OWN
        variance -= float(with_each @ heard.precision @ with_each)
        centre = generic.centre + generic.width * float(with_each @ heard.pull)
        width = generic.width * min(float(np.sqrt(max(variance, 0.0))), 1.0)
        return Prior(name=name, centre=float(np.clip(centre, *_limits(name))), width=width)


def kin(relatives: Iterable[Relative]) -> Kin:
    """Compare all relatives with each other."""
    known = tuple(relatives)
    mine = tuple(traits(one.device, one.engine) for one in known)
    among = shared(mine, mine)
    heard = {name: found for name in GENERIC if (found := _hear(name, known, among)) is not None}
    return Kin(known, mine, heard)


def kin_of(folder: Path) -> Kin | None:
    """The relatives that a folder of calibrations tells of; None where it tells of none."""
    path = folder / FILE
    return _kin_of(folder, path.stat().st_mtime_ns) if path.is_file() else None


@lru_cache(maxsize=4)
def _kin_of(folder: Path, _changed: int) -> Kin | None:
    return kin(read_relatives(folder))


def leaning(device: Device, engine_class: str, relatives: Iterable[Relative]) -> list[Prior]:
    """What is believed of every rate of an engine on a device, from relatives alone."""
    return kin(relatives).believe(device, engine_class)


def _hear(name: str, relatives: Sequence[Relative], among: Shared) -> Heard | None:
    generic = GENERIC[name]
    told = [(at, one.beliefs.get(name)) for at, one in enumerate(relatives)]
    sure = [(at, b) for at, b in told if b is not None and b.data_share >= LEAST_SHARE]
    if not sure:
        return None
    who = np.array([at for at, _ in sure])
    off = np.array([(belief.point - generic.centre) / generic.width for _, belief in sure])
    doubt = np.array([(belief.deviation / generic.width) ** 2 for _, belief in sure])
    spread = among.covariance(name)[np.ix_(who, who)] + np.diag(doubt + OWN + 1e-6)
    precision = _without_oddities(spread, off)
    return Heard(who, precision @ off, precision)


def _without_oddities(spread: Array, off: Array) -> Array:
    """The inverse of `spread`, with more doubt where one lies far from what the others imply."""
    precision = np.linalg.inv(spread)
    for _ in range(2):
        alone = np.diag(precision)
        distance = np.abs(precision @ off) / np.sqrt(alone)
        extra = np.maximum((distance / LOUDEST) ** 2 - 1.0, 0.0) / alone
        if not extra.any():
            break
        spread = spread + np.diag(extra)
        precision = np.linalg.inv(spread)
    return np.asarray(precision)


def nearest(device: Device, engine_class: str, relatives: Iterable[Relative]) -> list[str]:
    """Systems whose word counts most, nearest first, those with the very engine before others."""
    known = list(relatives)
    asked = [one for one in known if one.engine == engine_class] or known
    likeness = shared(
        [traits(device, engine_class)], [traits(one.device, one.engine) for one in asked]
    )
    alike = _closeness(likeness)
    order = sorted(range(len(asked)), key=lambda at: (-alike[at], asked[at].system))
    return list(dict.fromkeys(asked[at].system for at in order))


def _closeness(likeness: Shared) -> Array:
    """How alike the devices themselves are: 2 for twins."""
    return np.asarray((likeness.maker + likeness.device)[0])


def _limits(name: str) -> tuple[float, float]:
    entry = PARAMETERS[name]
    if name in LINEAR:
        return entry.low, entry.high
    return float(np.log(max(entry.low, entry.high * 1e-9))), float(np.log(entry.high))
