"""Closed forms for collectives: what a payload costs between ranks, in seconds.

An algorithm is two counts, hops in sequence and bytes through one rank's port in one direction;
a fabric turns them into time, and parameters say how far from ideal the machine is:

    seconds = base + hops·(hop + link latency) + w/efficiency + sqrt(ramp·w),   w = bytes/bandwidth

The square root is what measured curves show between the latency and the bandwidth regime. Groups
that leave the node run as reduce-scatter inside, the collective between nodes, all-gather inside,
or as one flat ring, whichever is faster. Every argument broadcasts.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, nearest
from analyzer.timing.collective_forms import (
    ALGORITHMS,
    ENGINE,
    LIBRARY,
    PARAMETERS,
    TOPOLOGIES,
    CollectiveParams,
    Fabric,
    Shape,
)

__all__ = ["ALGORITHMS", "PARAMETERS", "CollectiveParams", "Fabric", "collective_time"]

Array = NDArray[np.float64]


class _Level(NamedTuple):
    """One level of the hierarchy with its parameters applied."""

    Bps: Array
    latency_s: Array
    eff: Array
    multicast_eff: Array
    multicast: bool
    topology: str = "switch"


def collective_time(
    kind: str,
    payload_B: Any,
    ranks: Any,
    fabric: Fabric,
    params: CollectiveParams | None = None,
    algorithm: str | Iterable[str] = "library",
    stride: Any = 1.0,
) -> Array:
    """Seconds of a collective of `kind`; 0 where there is one rank.

    `algorithm` is a name, several (the fastest counts), "library" (what NCCL chooses among) or
    "engine" (custom kernels as well). `stride` is the distance between neighbouring ranks.
    """
    names = _names(kind, algorithm)
    params = CollectiveParams.ideal() if params is None else params
    if fabric.topology not in TOPOLOGIES:
        hint = nearest(fabric.topology, TOPOLOGIES)
        raise ConfigError(f"unknown topology {fabric.topology!r}{hint}")
    payload, n = np.asarray(payload_B, dtype=float), np.asarray(ranks, dtype=float)
    local = np.clip(np.floor(np.asarray(fabric.devices_per_node) / stride), 1.0, np.maximum(n, 1.0))
    within = _inside(fabric, params, local)
    if np.all(local >= n):
        seconds = _fastest(kind, names, payload, n, within, params)
    else:
        seconds = _across(kind, names, payload, n, local, fabric, params, within)
    return np.where(n > 1.0, seconds, 0.0)


def _names(kind: str, algorithm: str | Iterable[str]) -> tuple[str, ...]:
    if kind not in ALGORITHMS:
        raise ConfigError(f"unknown collective {kind!r}{nearest(kind, ALGORITHMS)}")
    groups = {"library": LIBRARY, "engine": ENGINE}
    if isinstance(algorithm, str):
        named = groups[algorithm][kind] if algorithm in groups else (algorithm,)
    else:
        named = tuple(algorithm)
    for name in named:
        if name not in ALGORITHMS[kind]:
            hint = nearest(name, ALGORITHMS[kind])
            raise ConfigError(f"{kind} has no algorithm {name!r}{hint}")
    return named


def _inside(fabric: Fabric, params: CollectiveParams, local: Array) -> _Level:
    others = np.maximum(local - 1.0, 1.0)
    own = np.minimum(fabric.link_Bps, np.asarray(fabric.pair_Bps) * others)
    Bps = np.minimum(own, np.asarray(fabric.shared_Bps) / np.maximum(local, 1.0))
    latency_s = np.asarray(fabric.link_latency_s) * (2.0 if fabric.through_host else 1.0)
    efficiencies = np.asarray(params.link_eff), np.asarray(params.multicast_eff)
    return _Level(Bps, latency_s, *efficiencies, fabric.multicast, fabric.topology)


def _between(fabric: Fabric, params: CollectiveParams) -> _Level:
    eff = np.asarray(params.net_eff)
    latency_s = np.asarray(fabric.net_latency_s)
    return _Level(np.asarray(fabric.net_Bps), latency_s, eff, eff, False)


def _fastest(
    kind: str,
    names: tuple[str, ...],
    payload: Array,
    n: Array,
    on: _Level,
    params: CollectiveParams,
) -> Array:
    """The fastest of the named algorithms on one level; those it cannot run do not count."""
    times = []
    for name in names:
        shape = ALGORITHMS[kind][name](np.maximum(n, 1.0))
        if shape.multicast and not on.multicast:
            continue
        times.append(_seconds(shape, payload * _spread(kind, n, on.topology), n, on, params))
    if not times:
        raise ConfigError(f"{kind}: none of {', '.join(names)} runs on a fabric without multicast")
    fastest: Array = times[0] if len(times) == 1 else np.minimum.reduce(np.broadcast_arrays(*times))
    return fastest


def _seconds(shape: Shape, payload: Array, n: Array, on: _Level, params: CollectiveParams) -> Array:
    if shape.custom:  # ranks are read in turn, though all at once on the wire
        fixed_s = params.custom_base_s + params.custom_hop_s * (n - 1.0)
    elif shape.multicast:
        fixed_s = params.multicast_base_s
    else:
        fixed_s = params.base_s + params.hop_s * shape.hops
    eff = on.multicast_eff if shape.multicast else on.eff
    wire_s = shape.wire * payload / on.Bps
    ramp_s = np.sqrt(params.ramp_s * wire_s)
    seconds: Array = fixed_s + shape.hops * on.latency_s + wire_s / eff + ramp_s
    return seconds


def _spread(kind: str, n: Array, topology: str) -> Array:
    """Links that a byte crosses beyond the first in all-to-all, where there is no switch.

    On a ring of n a byte travels n/4 links on average (both ways round are used).
    """
    sides = {"ring": 1.0, "torus2d": 2.0, "torus3d": 3.0}
    if kind != "all_to_all" or topology not in sides:
        return np.ones_like(n)
    dimensions = sides[topology]
    return np.maximum(dimensions * np.maximum(n, 1.0) ** (1.0 / dimensions) / 4.0, 1.0)


def _across(
    kind: str,
    names: tuple[str, ...],
    payload: Array,
    n: Array,
    local: Array,
    fabric: Fabric,
    params: CollectiveParams,
    within: _Level,
) -> Array:
    """Groups that leave the node, and those beside them in the same array that do not."""
    inside_s = _fastest(kind, names, payload, n, within, params)
    crossing_s = _CROSSING[kind](payload, n, local, within, _between(fabric, params), params)
    return np.where(local >= n, inside_s, crossing_s)


def _cross_all_reduce(
    payload: Array, n: Array, local: Array, within: _Level, net: _Level, params: CollectiveParams
) -> Array:
    nodes = np.ceil(n / local)
    halves = _cross_half("reduce_scatter", payload, local, within, params)
    inner = 2.0 * halves - np.where(local > 1.0, params.base_s, 0.0)  # one launch for all of it
    names = ("ring", "tree")
    outer = _fastest("all_reduce", names, payload / local, nodes, net, params)
    flat = _flat_ring("all_reduce", payload, n, local, within, net, params)
    return np.minimum(inner + outer - np.where(local > 1.0, params.base_s, 0.0), flat)


def _cross_half(
    kind: str, payload: Array, local: Array, within: _Level, params: CollectiveParams
) -> Array:
    seconds = _fastest(kind, ("ring",), payload, local, within, params)
    return np.where(local > 1.0, seconds, 0.0)


def _cross_gather(
    payload: Array, n: Array, local: Array, within: _Level, net: _Level, params: CollectiveParams
) -> Array:
    """All-gather; reduce-scatter is the same backwards."""
    nodes = np.ceil(n / local)
    inner = _cross_half("all_gather", payload, local, within, params)
    outer = _fastest("all_gather", ("ring",), payload / local, nodes, net, params)
    flat = _flat_ring("all_gather", payload, n, local, within, net, params)
    return np.minimum(inner + outer - np.where(local > 1.0, params.base_s, 0.0), flat)


def _flat_ring(
    kind: str,
    payload: Array,
    n: Array,
    local: Array,
    within: _Level,
    net: _Level,
    params: CollectiveParams,
) -> Array:
    """One ring per adapter through all ranks; it enters and leaves each node once."""
    shape = ALGORITHMS[kind]["ring"](n)
    inner_s = shape.wire * payload / (within.Bps * within.eff)
    outer_s = shape.wire * payload / (local * net.Bps * net.eff)
    wire_s = np.maximum(inner_s, outer_s)
    nodes = np.ceil(n / local)
    latency_s = ((n - nodes) * within.latency_s + nodes * net.latency_s) / n
    ramp_s = np.sqrt(params.ramp_s * wire_s)
    seconds: Array = params.base_s + shape.hops * (params.hop_s + latency_s) + wire_s + ramp_s
    return seconds


def _cross_all_to_all(
    payload: Array, n: Array, local: Array, within: _Level, net: _Level, params: CollectiveParams
) -> Array:
    """Both kinds of port at once: each byte goes straight to its rank."""
    inner_s = (local - 1.0) / n * payload / (within.Bps * within.eff)
    outer_s = (n - local) / n * payload / (net.Bps * net.eff)
    wire_s = np.maximum(inner_s, outer_s)
    ramp_s = np.sqrt(params.ramp_s * wire_s)
    seconds: Array = params.base_s + params.hop_s + net.latency_s + wire_s + ramp_s
    return seconds


def _cross_p2p(
    payload: Array, n: Array, local: Array, within: _Level, net: _Level, params: CollectiveParams
) -> Array:
    return _fastest("p2p", ("direct",), payload, n, net, params)


_CROSSING = {
    "all_reduce": _cross_all_reduce,
    "all_gather": _cross_gather,
    "reduce_scatter": _cross_gather,
    "all_to_all": _cross_all_to_all,
    "p2p": _cross_p2p,
}
