"""Weights and cache that lie beside the device, in the simplest form: bytes over bandwidth.

Every step fetches what it reads of them over the host's link (and, from disk, over the disk first),
while it computes; it takes the longer of the two. That is the best that an engine can do with these
shares. How a real engine schedules such transfers, and which shares to choose, is the subject of
`offload.py`.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from analyzer.errors import CapacityError, ConfigError
from analyzer.memory import memory
from analyzer.phases import SHARES, Laid
from analyzer.system import Disk, HostMemory, System
from analyzer.timing.machine import Machine
from analyzer.timing.phase import Part, Phase
from analyzer.timing.rates import Rates
from analyzer.workload import Workload


def check_stores(laid: Laid, load: Workload, system: System) -> None:
    """Refuse what the host or the disk of a node cannot hold."""
    offload = laid.plan.offload
    if offload is None:
        return
    whole = laid._replace(plan=msgspec.structs.replace(laid.plan, offload=None))
    used = memory(whole, load)
    neighbours = np.minimum(laid.plan.devices, system.devices_per_node)
    for name, store in (("host", system.host), ("disk", system.disk)):
        shares = (getattr(offload, f"{what}_{name}") for what in ("weights", "kv"))
        kept_B = sum(s * held for s, held in zip(shares, used[:2], strict=True)) * neighbours
        if np.any(np.asarray(kept_B) > 0):
            _check_store(name, store, float(np.max(kept_B)), system)


def _check_store(
    name: str, store: HostMemory | Disk | None, needs_B: float, system: System
) -> None:
    if store is None or system.host_link is None:
        raise ConfigError(
            f"{system.name} has no figures of its {name}; give [host_link] and [{name}] in a "
            f"system file of your own (plumbline systems {system.name} prints this one)"
        )
    if needs_B > store.capacity_B:
        raise CapacityError(
            f"what is offloaded does not fit the {name} of {system.name}: {needs_B / 1e9:.1f} GB "
            f"per node, and it has {store.capacity_B / 1e9:.1f} GB"
        )


def fetching(phase: Phase, laid: Laid, on: Machine, rates: Rates, system: System) -> Phase:
    """The phase with the waiting for what it fetches; unchanged where nothing is offloaded."""
    offload = laid.plan.offload
    if offload is None:
        return phase
    weights_B, kv_B = (_read_B(phase, column) / laid.plan.pp for column in ("weight_B", "kv_B"))
    from_host = weights_B * offload.weights_host + kv_B * offload.kv_host
    from_disk = weights_B * offload.weights_disk + kv_B * offload.kv_disk
    neighbours = np.minimum(laid.plan.devices, system.devices_per_node)
    link_s = (from_host + from_disk) / (on.host_Bps * rates.host_link_eff)
    disk_s = _where_any(from_disk, from_disk * neighbours / (on.disk_Bps * rates.disk_eff))
    waits_s = np.maximum(np.maximum(link_s, disk_s) - phase.total_s, 0.0)
    return phase._replace(total_s=phase.total_s + waits_s, fetch_s=waits_s)


def _where_any(amount: Any, seconds: Any) -> Any:
    """No time for nothing, also where the bandwidth is unknown."""
    return np.where(np.asarray(amount) > 0, seconds, 0.0)


def _read_B(phase: Phase, column: str) -> Any:
    """Bytes of one column that the phase reads on all stages of one replica's rank."""
    return sum(_part_B(part, column) for part in phase.parts)


def _part_B(part: Part, column: str) -> Any:
    columns = part.table.columns
    total = (columns[column] * columns["repeat"]).sum(axis=0)
    if part.quadrature and total.ndim:
        total = np.tensordot(SHARES, total, 1) if len(total) == len(SHARES) else total[0]
    return total * part.times
