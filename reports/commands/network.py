"""A collective chunk by chunk over links, beside the closed form that predictions use.

  plumbline network --network cluster.yml --collective all_reduce --sizes 64KiB,1MiB,64MiB
  plumbline network --system H100-SXM --devices 8 --algorithm ring,direct

Both are for links that reach their data sheet: no rate enters. A file is ASTRA-sim's kind: lists of
topology, npus_count, bandwidth (GB/s) and latency (ns), one entry per dimension, innermost first.
"""

from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.table import Table

from analyzer.errors import ConfigError
from analyzer.network.algorithms import COLLECTIVES
from analyzer.network.astra import read_dimensions
from analyzer.network.forms import fabric_of, topology_of
from analyzer.network.hierarchical import run as simulate
from analyzer.network.topology import Topology, product
from analyzer.systems_catalog import load_system
from analyzer.timing.collective_forms import ALGORITHMS, Fabric
from analyzer.timing.collectives import collective_time
from analyzer.timing.machine import machine
from analyzer.units import parse
from analyzer.units import show as in_units
from reports.console import show, write, write_json

_CLOSED = {"bidirectional_ring": "ring", "direct": "two_shot", "binomial": ""}
"""Closed forms of all-reduce that have another name; a binomial tree in one piece has none."""


class Line(NamedTuple):
    """One size and algorithm; seconds."""

    size_B: float
    algorithm: str
    simulated_s: float
    closed_s: float | None
    """None where there is no closed form."""
    busiest: float
    """Share of the time in which the busiest link carried bytes."""


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("--network", metavar="FILE", help="an ASTRA-sim style network file")
    parser.add_argument("--system", help="or the links of a system of the catalog")
    parser.add_argument("--devices", type=int, default=8, metavar="N", help="of that system")
    parser.add_argument("--collective", default="all_reduce", choices=tuple(COLLECTIVES))
    parser.add_argument("--algorithm", default="", metavar="LIST", help="all that apply, if blank")
    parser.add_argument("--sizes", default="64KiB,1MiB,16MiB,256MiB", metavar="LIST")
    parser.add_argument("--pieces", type=int, default=1, metavar="N", help="chunks of the payload")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """Simulate and compare."""
    if bool(options.network) == bool(options.system):
        raise ConfigError("give either --network FILE or --system NAME")
    if options.pieces < 1:
        raise ConfigError(f"pieces must be at least 1, not {options.pieces}")
    net, fabric, name = _network(options)
    sizes = [parse(text.strip(), "bytes") for text in options.sizes.split(",")]
    named = [text.strip() for text in options.algorithm.split(",") if text.strip()]
    algorithms = named or _applicable(options.collective, net)
    lines = [
        _line(options, net, fabric, size_B, algorithm)
        for size_B in sizes
        for algorithm in algorithms
    ]
    if options.json:
        listed = [line._asdict() for line in lines]
        write_json({"network": name, "ranks": net.ranks, "shape": net.shape, "lines": listed})
        return
    show(_table(options.collective, name, net, lines))
    if fabric is None:
        write("No closed form knows this network: the simulation is the only answer.")


def _network(options: Namespace) -> tuple[Topology, Fabric | None, str]:
    if options.network:
        dimensions = read_dimensions(Path(options.network))
        return product(dimensions), fabric_of(dimensions), Path(options.network).name
    system = load_system(options.system)
    return topology_of(system, options.devices), machine(system).fabric, system.name


def _applicable(kind: str, net: Topology) -> list[str]:
    two = net.ranks & (net.ranks - 1) == 0
    names = [name for name in COLLECTIVES[kind] if two or name != "halving_doubling"]
    return [*names, *(["hierarchical"] if kind == "all_reduce" and len(net.shape) > 1 else [])]


def _line(
    options: Namespace, net: Topology, fabric: Fabric | None, size_B: float, algorithm: str
) -> Line:
    found = simulate(net, options.collective, size_B, algorithm, options.pieces)
    busiest = float(found.link_busy_s.max()) / found.seconds
    closed_s = _closed_s(options.collective, algorithm, size_B, net, fabric)
    return Line(size_B, algorithm, found.seconds, closed_s, busiest)


def _closed_s(
    kind: str, algorithm: str, size_B: float, net: Topology, fabric: Fabric | None
) -> float | None:
    """The closed form of the same algorithm; of `hierarchical`, what it is taken to be."""
    if fabric is None:
        return None
    across = net.ranks > fabric.devices_per_node
    if across:
        return (
            _seconds(kind, size_B, net.ranks, fabric, "library")
            if (algorithm in ("hierarchical", "direct"))
            else None
        )
    closed = _CLOSED.get(algorithm, algorithm) if kind == "all_reduce" else algorithm
    if closed not in ALGORITHMS[kind] or fabric.topology not in ("switch", "full"):
        closed_ring = fabric.topology == "ring" and algorithm == "bidirectional_ring"
        return _seconds(kind, size_B, net.ranks, fabric, "ring") if closed_ring else None
    return _seconds(kind, size_B, net.ranks, fabric, closed)


def _seconds(kind: str, size_B: float, ranks: int, fabric: Fabric, algorithm: str) -> float:
    return float(collective_time(kind, size_B, float(ranks), fabric, algorithm=algorithm))


def _table(kind: str, name: str, net: Topology, lines: list[Line]) -> Table:
    shape = " x ".join(map(str, net.shape)) or str(net.ranks)
    title = f"{kind.replace('_', '-')} over {net.ranks} ranks ({shape}) of {name}"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for heading in ("size", "algorithm", "simulated", "closed form", "sim/closed", "busiest link"):
        table.add_column(heading, justify="left" if heading == "algorithm" else "right")
    for line in lines:
        closed = line.closed_s
        table.add_row(
            in_units(line.size_B, "bytes", 3),
            line.algorithm,
            in_units(line.simulated_s, "time", 4),
            "-" if closed is None else in_units(closed, "time", 4),
            "-"
            if closed is None or not math.isfinite(closed)
            else f"{line.simulated_s / closed:.3f}",
            f"{line.busiest:.0%}",
        )
    return table
