"""Ranks, directed links, and the way from one rank to another.

Most topologies are products of dimensions (ring, line, switch, all to all), routed one dimension
after the other; fat trees and hosts are built link by link. Bandwidths are per link and direction.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from analyzer.errors import ConfigError, nearest


class Link(NamedTuple):
    """One direction of one cable or port."""

    name: str
    Bps: float
    latency_s: float
    ramp_s: float = 0.0
    """What sending on it costs beyond latency and bytes, as collectives.py's `ramp_s`: a message
    of w seconds takes sqrt(ramp·w) longer."""
    floor_s: float = 0.0
    """What a message takes on it however little it carries."""


FLOOR_SHARPNESS = 8.0
"""How sharply a message's own time takes over from the floor."""


class Dimension(NamedTuple):
    """Ranks that differ in one coordinate only, and what joins them."""

    kind: str
    """"ring", "line" (a mesh's), "switch" or "full"."""
    size: int
    Bps: float
    """Of each link: to one neighbour, to one peer, or to the switch."""
    latency_s: float
    """Of one hop; through a switch, in and out together."""
    ramp_s: float = 0.0
    floor_s: float = 0.0


@dataclass
class Topology:
    """`ranks` devices and the links between them; routes are found once and kept."""

    ranks: int
    links: list[Link] = field(default_factory=list)
    find_route: Callable[[int, int], tuple[int, ...]] = lambda source, target: ()
    shape: tuple[int, ...] = ()
    """Sizes of the dimensions, where there are any."""
    _routes: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict)

    def route(self, source: int, target: int) -> tuple[int, ...]:
        """Links from one rank to another, in order."""
        pair = source, target
        if pair not in self._routes:
            if not (0 <= source < self.ranks and 0 <= target < self.ranks):
                raise ConfigError(f"no route {source}→{target} among {self.ranks} ranks")
            self._routes[pair] = self.find_route(source, target) if source != target else ()
        return self._routes[pair]

    def add(
        self, name: str, Bps: float, latency_s: float, ramp_s: float = 0.0, floor_s: float = 0.0
    ) -> int:
        """Append a link; its position."""
        if not (Bps > 0 and latency_s >= 0):
            raise ConfigError(f"link {name}: needs a bandwidth above 0 and a latency of 0 or more")
        self.links.append(Link(name, Bps, latency_s, ramp_s, floor_s))
        return len(self.links) - 1

    def lines(self, dimension: int) -> list[list[int]]:
        """Groups of ranks that differ in this dimension only."""
        below = math.prod(self.shape[:dimension])
        size = self.shape[dimension]
        firsts = [rank for rank in range(self.ranks) if (rank // below) % size == 0]
        return [[first + step * below for step in range(size)] for first in firsts]


Wires = dict[tuple[int, ...], int]
"""What joins two ranks of a line, (from, to) or (rank, ±1 for in and out of a switch), to links."""


def product(dimensions: Sequence[Dimension]) -> Topology:
    """The product of dimensions; the first one's neighbours are consecutive ranks."""
    for dimension in dimensions:
        if dimension.kind not in _WIRE:
            hint = nearest(dimension.kind, _WIRE)
            raise ConfigError(f"unknown dimension {dimension.kind!r}{hint}")
        if dimension.size < 1:
            raise ConfigError(f"dimension {dimension.kind}: size {dimension.size} is below 1")
    shape = tuple(dimension.size for dimension in dimensions)
    topology = Topology(ranks=math.prod(shape), shape=shape)
    wires: list[Wires] = []
    for index, dimension in enumerate(dimensions):
        joined: Wires = {}
        for line in topology.lines(index):
            _WIRE[dimension.kind](topology, dimension, line, joined)
        wires.append(joined)

    def find(source: int, target: int) -> tuple[int, ...]:
        route: list[int] = []
        at = source
        for index, dimension in enumerate(dimensions):
            below = math.prod(shape[:index])
            here, there = (at // below) % dimension.size, (target // below) % dimension.size
            steps = _PATH[dimension.kind](here, there, dimension.size)
            for start, stop in itertools.pairwise(steps):
                begin, end = at + (start - here) * below, at + (stop - here) * below
                route += _hop(dimension.kind, begin, end, wires[index])
            at += (there - here) * below
        return tuple(route)

    topology.find_route = find
    return topology


def _hop(kind: str, begin: int, end: int, wires: Wires) -> list[int]:
    if kind == "switch":
        return [wires[begin, -1, 0], wires[end, 1, 0]]
    return [wires[begin, end]]


def _wire_neighbours(topology: Topology, spec: Dimension, line: list[int], wires: Wires) -> None:
    for here, there in itertools.pairwise(line):
        _both_ways(topology, spec, here, there, wires)


def _wire_ring(topology: Topology, spec: Dimension, line: list[int], wires: Wires) -> None:
    _wire_neighbours(topology, spec, line, wires)
    if len(line) > 2:
        _both_ways(topology, spec, line[-1], line[0], wires)


def _wire_full(topology: Topology, spec: Dimension, line: list[int], wires: Wires) -> None:
    for here, there in itertools.combinations(line, 2):
        _both_ways(topology, spec, here, there, wires)


def _wire_switch(topology: Topology, spec: Dimension, line: list[int], wires: Wires) -> None:
    if len(line) > 1:
        for rank in line:
            # a floor is that of the whole hop, so then all of the latency is on the way out
            out_s = spec.latency_s if spec.floor_s else spec.latency_s / 2.0
            rest = spec.ramp_s, spec.floor_s
            wires[rank, -1, 0] = topology.add(f"{rank}→switch", spec.Bps, out_s, *rest)
            wires[rank, 1, 0] = topology.add(f"switch→{rank}", spec.Bps, spec.latency_s - out_s)


def _both_ways(topology: Topology, spec: Dimension, here: int, there: int, wires: Wires) -> None:
    wires[here, there] = topology.add(f"{here}→{there}", *spec[2:])
    wires[there, here] = topology.add(f"{there}→{here}", *spec[2:])


def _along(here: int, there: int, size: int) -> list[int]:
    return list(range(here, there + 1)) if there >= here else list(range(here, there - 1, -1))


def _around(here: int, there: int, size: int) -> list[int]:
    """The shorter way round; half of the pairs exactly opposite go each way."""
    ahead = (there - here) % size
    forward = ahead * 2 < size or (ahead * 2 == size and here % 2 == 0)
    count, sign = (ahead, 1) if forward else (size - ahead, -1)
    return [(here + sign * step) % size for step in range(count + 1)]


def _straight(here: int, there: int, size: int) -> list[int]:
    return [here, there] if here != there else [here]


_WIRE = {
    "ring": _wire_ring,
    "line": _wire_neighbours,
    "switch": _wire_switch,
    "full": _wire_full,
}
_PATH = {"ring": _around, "line": _along, "switch": _straight, "full": _straight}


def switch(
    ranks: int, Bps: float, latency_s: float, ramp_s: float = 0.0, floor_s: float = 0.0
) -> Topology:
    """All ranks on one non-blocking switch; `Bps` per port and direction."""
    return product([Dimension("switch", ranks, Bps, latency_s, ramp_s, floor_s)])


def ring(ranks: int, Bps: float, latency_s: float) -> Topology:
    """Each rank joined to two neighbours; `Bps` per link and direction."""
    return product([Dimension("ring", ranks, Bps, latency_s)])


def full(ranks: int, Bps: float, latency_s: float) -> Topology:
    """A link of its own for every pair."""
    return product([Dimension("full", ranks, Bps, latency_s)])


def mesh(shape: Sequence[int], Bps: float, latency_s: float) -> Topology:
    """A grid without wrap-around."""
    return product([Dimension("line", size, Bps, latency_s) for size in shape])


def torus(shape: Sequence[int], Bps: float, latency_s: float) -> Topology:
    """A grid with wrap-around."""
    return product([Dimension("ring", size, Bps, latency_s) for size in shape])


def two_level(
    nodes: int, per_node: int, link_Bps: float, link_s: float, net_Bps: float, net_s: float
) -> Topology:
    """A switch in every node (NVLink), and per rank an adapter on its rail's switch (IB)."""
    inside = Dimension("switch", per_node, link_Bps, link_s)
    return product([inside, Dimension("switch", nodes, net_Bps, net_s)])


def fat_tree(
    leaves: int, per_leaf: int, Bps: float, latency_s: float, oversubscription: float = 1.0
) -> Topology:
    """Leaf switches under one core; uplinks carry 1/oversubscription of their leaf's ports."""
    topology = Topology(ranks=leaves * per_leaf, shape=(per_leaf, leaves))
    hop_s = latency_s / 2.0
    up = [topology.add(f"{rank}→leaf", Bps, hop_s) for rank in range(topology.ranks)]
    down = [topology.add(f"leaf→{rank}", Bps, hop_s) for rank in range(topology.ranks)]
    trunk_Bps = Bps * per_leaf / oversubscription
    rise = [topology.add(f"leaf {leaf}→core", trunk_Bps, hop_s) for leaf in range(leaves)]
    fall = [topology.add(f"core→leaf {leaf}", trunk_Bps, hop_s) for leaf in range(leaves)]

    def find(source: int, target: int) -> tuple[int, ...]:
        here, there = source // per_leaf, target // per_leaf
        if here == there:
            return up[source], down[target]
        return up[source], rise[here], fall[there], down[target]

    topology.find_route = find
    return topology


def through_host(ranks: int, Bps: float, latency_s: float, shared_Bps: float) -> Topology:
    """PCIe without peer-to-peer: each transfer crosses its port, host memory, the other port."""
    topology = Topology(ranks=ranks, shape=(ranks,))
    up = [topology.add(f"{rank}→host", Bps, latency_s) for rank in range(ranks)]
    memory = topology.add("host memory", shared_Bps, 0.0)
    down = [topology.add(f"host→{rank}", Bps, latency_s) for rank in range(ranks)]
    topology.find_route = lambda source, target: (up[source], memory, down[target])
    return topology
