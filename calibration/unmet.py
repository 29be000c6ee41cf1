"""Rates that a (system, engine)'s own measurements never met, as its relatives have them.

A calibration from one device alone says nothing of collectives, one from 16-bit weights nothing of
narrow ones, one from dense models nothing of experts. A scenario that needs such a rate is answered
all the same, and what its relatives learnt is nearer than any default. Such rates say of themselves
that no measurement of their own supports them.
"""

from __future__ import annotations

import msgspec

from analyzer.calibrated import Calibration, FittedRate
from analyzer.kinship import Kin, had
from analyzer.priors import GENERIC, Prior
from analyzer.system import Device
from calibration.export import rounded
from calibration.relevant import IN_LOOPS, WIDE

_NEVER = WIDE | {"cold_s"}
"""What is no part of a prediction unless somebody measured it: first runs, and 32 bits beside 16 on
processors, whose own rates hold for whichever was measured."""


def completed(found: Calibration, device: Device, known: Kin | None) -> Calibration:
    """The calibration with every rate that it lacks, from relatives where any are known."""
    believed = known.believe(device, found.engine) if known is not None else GENERIC.values()
    lacking = {prior.name: prior for prior in believed if prior.name not in found.rates}
    loops = found.hull is None or "closed_loop" in found.hull.arrivals
    never = _NEVER if loops else _NEVER | IN_LOOPS
    wanted = [name for name in had(device, found.engine) if name in lacking and name not in never]
    more = {name: _rate(lacking[name]) for name in wanted}
    return msgspec.structs.replace(found, rates={**found.rates, **more})


def _rate(prior: Prior) -> FittedRate:
    low, high = prior.interval()
    return FittedRate(
        value=rounded(prior.value),
        low=rounded(low),
        high=rounded(high),
        data_share=0.0,
        identified=False,
    )
