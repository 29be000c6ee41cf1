"""Between topologies and closed forms: what the one has of the other.

Closed forms know up to two levels (a node's links, and the network between nodes); what has more
levels, or a mesh without wrap-around, can only be simulated.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec

from analyzer.errors import ConfigError
from analyzer.network import topology as build
from analyzer.network.topology import Dimension, Topology
from analyzer.system import Link, System
from analyzer.timing.collective_forms import Fabric

_TOPOLOGY_OF = {"switch": "switch", "ring": "ring", "full": "full"}


def fabric_of(dimensions: Sequence[Dimension]) -> Fabric | None:
    """What closed forms read of up to two dimensions; None where there is no closed form."""
    real = [dimension for dimension in dimensions if dimension.size > 1]
    if not real or len(real) > 2 or real[0].kind not in _TOPOLOGY_OF:
        return None
    inner = real[0]
    peers = {"switch": 1, "ring": 2 if inner.size > 2 else 1, "full": inner.size - 1}[inner.kind]
    values: dict[str, Any] = {
        "link_Bps": inner.Bps * peers,
        "link_latency_s": inner.latency_s,
        "topology": _TOPOLOGY_OF[inner.kind],
        "devices_per_node": float(inner.size) if len(real) == 2 else math.inf,
    }
    if inner.kind == "full":
        values["pair_Bps"] = inner.Bps
    if len(real) == 2:
        if real[1].kind != "switch":
            return None
        values |= {"net_Bps": real[1].Bps, "net_latency_s": real[1].latency_s}
    return Fabric(**values)


def with_network(system: System, dimensions: Sequence[Dimension], where: str) -> System:
    """The system with its devices joined as the dimensions say."""
    fabric = fabric_of(dimensions)
    if fabric is None:
        raise ConfigError(
            f"{where}: predictions know a switch, ring or fully connected node and a switch "
            f"between nodes; simulate other networks with plumbline network"
        )
    ranks = math.prod(dimension.size for dimension in dimensions)
    per_node = int(min(fabric.devices_per_node, ranks))
    pair_Bps = fabric.pair_Bps if math.isfinite(fabric.pair_Bps) else None
    inner = Link(
        name=where,
        bandwidth_Bps=fabric.link_Bps,
        latency_s=fabric.link_latency_s or _LEAST_S,
        topology=fabric.topology,
        pair_Bps=pair_Bps,
    )
    outer = None
    if per_node < ranks:
        latency_s = fabric.net_latency_s or _LEAST_S
        outer = Link(name=where, bandwidth_Bps=fabric.net_Bps, latency_s=latency_s)
    kept = {
        name: text
        for name, text in system.sources.items()
        if not name.startswith(("intra_node", "inter_node", "devices_per_node", "nodes"))
    }
    return msgspec.structs.replace(
        system,
        name=f"{system.name} on {where}",
        devices_per_node=per_node,
        nodes=ranks // per_node,
        intra_node=inner,
        inter_node=outer,
        sources=kept,
    )


_LEAST_S = 1e-12
"""A latency of 0 as a system can hold it."""


def topology_of(system: System, devices: int) -> Topology:
    """The links between the first `devices` devices of a system, for simulation."""
    if devices < 2:
        raise ConfigError(f"a network joins at least 2 devices, not {devices}")
    nodes = system.nodes_for(devices)
    local = min(devices, system.devices_per_node)
    inner = system.intra_node
    if nodes > 1:
        outer = system.inter_node
        if devices % local or outer is None:
            raise ConfigError(f"{devices} devices do not fill nodes of {system.devices_per_node}")
        if inner is None:
            return build.switch(nodes, outer.bandwidth_Bps, outer.latency_s)
        return build.two_level(
            nodes, local, inner.bandwidth_Bps, inner.latency_s, outer.bandwidth_Bps, outer.latency_s
        )
    if inner is None:
        raise ConfigError(f"{system.name}: nothing joins its devices")
    if inner.through_host:
        shared_Bps = inner.shared_Bps or inner.bandwidth_Bps * devices
        return build.through_host(devices, inner.bandwidth_Bps, inner.latency_s, shared_Bps)
    if inner.topology == "full":
        each = inner.pair_Bps or inner.bandwidth_Bps / max(system.devices_per_node - 1, 1)
        return build.full(devices, each, inner.latency_s)
    if inner.topology == "ring":
        return build.ring(devices, inner.bandwidth_Bps / 2.0, inner.latency_s)
    if inner.topology.startswith("torus"):
        return _torus(devices, int(inner.topology[5]), inner)
    return build.switch(devices, inner.bandwidth_Bps, inner.latency_s)


def _torus(devices: int, dimensions: int, link: Link) -> Topology:
    side = round(devices ** (1.0 / dimensions))
    if side**dimensions != devices:
        raise ConfigError(f"{devices} devices make no torus of {dimensions} equal sides")
    each = link.bandwidth_Bps / (2.0 * dimensions)
    return build.torus((side,) * dimensions, each, link.latency_s)
