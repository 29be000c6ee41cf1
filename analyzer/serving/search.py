"""The highest rate of arrivals under which the promises are still kept."""

from __future__ import annotations

import math

import msgspec

from analyzer.errors import ConfigError, nearest
from analyzer.serving.cluster import Cluster
from analyzer.serving.options import SimOptions
from analyzer.serving.result import Collector, SimResult, gather
from analyzer.serving.timers import StepTimer
from analyzer.workload_arrivals import AllAtOnce, Constant, Gamma, Poisson

FIRST_LOOK = 256


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One rate that was tried."""

    rate_per_s: float
    kept: bool
    attainment: float | None
    ended_early: bool
    """True: so many requests had failed that the rest did not matter."""


class MaxRate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Answer of the search."""

    rate_per_s: float
    """Highest rate tried that kept the promises; 0 if none did."""
    failed_rate_per_s: float | None
    """Lowest rate tried that did not; None if even the highest did."""
    at_rate: SimResult | None
    probes: tuple[Probe, ...]


def max_rate(
    options: SimOptions,
    timer: StepTimer,
    *,
    attainment: float = 0.99,
    tolerance: float = 0.01,
    lowest_per_s: float = 1e-3,
    highest_per_s: float = 1e6,
) -> MaxRate:
    """Bisect the arrival rate to `tolerance`; `attainment` is the share that must keep the SLO.

    `options.load` gives everything but the rate, and how many requests a probe has.
    """
    _check(options, attainment, tolerance)
    probes: list[Probe] = []
    best: tuple[float, SimResult] | None = None
    failed: float | None = None
    rate = _first_guess(options, timer)
    while lowest_per_s <= rate <= highest_per_s:
        kept, result = _probe(options, timer, rate, attainment, probes)
        if kept:
            best = (rate, result)
        else:
            failed = rate
        if best and failed and failed / best[0] <= 1.0 + tolerance:
            break
        rate = math.sqrt(best[0] * failed) if best and failed else rate * (2.0 if kept else 0.5)
    return MaxRate(
        rate_per_s=best[0] if best else 0.0,
        failed_rate_per_s=failed,
        at_rate=best[1] if best else None,
        probes=tuple(probes),
    )


def with_rate(options: SimOptions, rate_per_s: float) -> SimOptions:
    """The same deployment and load at another rate."""
    arrivals = msgspec.structs.replace(options.load.arrivals, rate_per_s=rate_per_s)
    load = msgspec.structs.replace(options.load, arrivals=arrivals)
    return msgspec.structs.replace(options, load=load)


def _probe(
    options: SimOptions, timer: StepTimer, rate: float, share: float, probes: list[Probe]
) -> tuple[bool, SimResult]:
    tried = with_rate(options, rate)
    wanted = tried.load.requests
    allowed = int((1.0 - share) * wanted) if wanted is not None else None
    seen = Collector(tried, allowed_failures=allowed)
    cluster = Cluster(tried, timer, seen.done)
    cluster.run()
    result = gather(tried, cluster, seen)
    # Promises alone would let a queue grow through a short run of long answers.
    kept = result.unfinished == 0 and (result.attainment or 0.0) >= share
    probes.append(
        Probe(
            rate_per_s=rate,
            kept=kept,
            attainment=result.attainment,
            ended_early=result.unfinished > 0,
        )
    )
    return kept, result


def _first_guess(options: SimOptions, timer: StepTimer) -> float:
    """What comes out per second when everything comes at once: the search begins at half of it."""
    few = min(options.load.requests or FIRST_LOOK, FIRST_LOOK)
    load = msgspec.structs.replace(options.load, arrivals=AllAtOnce(), requests=few)
    flood = msgspec.structs.replace(options, load=load, slo=None)
    seen = Collector(flood)
    cluster = Cluster(flood, timer, seen.done)
    cluster.run()
    if not seen.finished:
        raise ConfigError("every request is longer than the engine takes")
    return 0.5 * seen.finished / cluster.now_s


def _check(options: SimOptions, attainment: float, tolerance: float) -> None:
    arrivals = options.load.arrivals
    if not isinstance(arrivals, Poisson | Gamma | Constant):
        kind = str(arrivals.__struct_config__.tag)
        raise ConfigError(
            f"arrivals '{kind}' have no rate to search"
            f"{nearest(kind, ('poisson', 'gamma', 'constant'))}; use poisson, gamma or constant"
        )
    if options.slo is None:
        raise ConfigError("a search for the highest rate needs an SLO (ttft_s, tpot_s or e2e_s)")
    if not 0 < attainment <= 1:
        raise ConfigError(f"attainment must be above 0 and at most 1, not {attainment!r}")
    if not 0 < tolerance < 1:
        raise ConfigError(f"tolerance must be between 0 and 1, not {tolerance!r}")
