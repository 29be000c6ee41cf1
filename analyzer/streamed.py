"""Weights that rest in host memory or on disk and come over the host link in every step.

They make room on the device, and no step ends before its weights have come: a step takes the
longer of its own time and the transfer, as in an engine that fetches the next layer while it
computes this one. Policies that also move cache and activations are another matter: see
`plumbline search --offload`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from analyzer.errors import CapacityError, ConfigError
from analyzer.memory import Memory
from analyzer.plan import Plan
from analyzer.system import System
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates


def resting_B(plan: Plan, used: Memory) -> Any:
    """Bytes of weights per device that rest elsewhere."""
    if plan.offload is None:
        return 0.0
    return (plan.offload.weights_host + plan.offload.weights_disk) * used.weights_B


def on_device(plan: Plan, used: Memory) -> Memory:
    """What is left on the device."""
    if plan.offload is None:
        return used
    return used._replace(weights_B=used.weights_B - resting_B(plan, used))


def check_offload(plan: Plan, system: System) -> None:
    """Refuse what no machine can do, or what this one lacks the parts for."""
    offload = plan.offload
    if offload is None:
        return
    if offload.kv_host or offload.kv_disk:
        raise ConfigError(
            "a cache off the device is not predicted here: plumbline search --offload"
        )
    shares = (offload.weights_host, offload.weights_disk)
    if min(shares) < 0 or sum(shares) > 1:
        raise ConfigError("weights_host and weights_disk are shares: 0 to 1 together")
    if system.host_link is None:
        raise ConfigError(f"{system.name} names no host link; give [host_link] in a .toml file")
    if offload.weights_disk and system.disk is None:
        raise ConfigError(f"{system.name} names no disk; give [disk] in a .toml file")


def without_resting(
    limits: Machine, plan: Plan, system: System, used: Memory, rates: Rates, strict: bool
) -> Machine:
    """The machine as a plan with offloading finds it: more room, and passes that wait.

    Where host memory or disk are too small for what shall rest there, nothing fits; with
    `strict`, that raises CapacityError.
    """
    held = _held(plan, system, used)
    if strict and not np.all(held):
        resting = float(np.max(resting_B(plan, used))) / 1e9
        raise CapacityError(
            f"{system.name} has not the host memory or disk for {resting:.1f} GB of weights per "
            "device; keep more of them on the devices"
        )
    room_B = np.where(held, limits.memory_B + resting_B(plan, used), 0.0)
    return limits._replace(memory_B=room_B, pass_s=pass_s(plan, system, used, rates))


def _held(plan: Plan, system: System, used: Memory) -> Any:
    """Whether the host's memory and the disk hold what rests there, by scenario."""
    offload = plan.offload
    if offload is None:
        return True
    in_node = np.minimum(np.asarray(plan.devices, dtype=np.float64), system.devices_per_node)
    held: Any = True
    for share, store in ((offload.weights_host, system.host), (offload.weights_disk, system.disk)):
        if share and store is not None:
            held = held & (share * used.weights_B * in_node <= store.capacity_B)
    return held


def pass_s(plan: Plan, system: System, used: Memory, rates: Rates) -> Any:
    """Seconds in which one pass's resting weights come to a device."""
    offload, link = plan.offload, system.host_link
    if offload is None or link is None:
        return 0.0
    seconds = resting_B(plan, used) / (link.h2d_Bps * rates.host_link_eff)
    if offload.weights_disk and system.disk is not None:
        # All devices of a node read the one disk; the disk and the link work side by side.
        in_node = np.minimum(np.asarray(plan.devices, dtype=np.float64), system.devices_per_node)
        each_Bps = system.disk.read_Bps * rates.disk_eff / in_node
        seconds = np.maximum(seconds, offload.weights_disk * used.weights_B / each_Bps)
    return seconds
