"""The systems of the catalog: peaks, memory, links; with a name, every figure and its source.

plumbline systems           all of them
plumbline systems h100      those whose name or alias holds the word
plumbline systems --sources RTX3090
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from analyzer.errors import ConfigError, nearest
from analyzer.system import System, figures
from analyzer.systems_catalog import load_system, system_aliases, system_names
from analyzer.units import show as quantity
from reports.console import show, write_json


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("word", nargs="?", default="", help="part of a name")
    parser.add_argument("--sources", action="store_true", help="every figure with its source")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """List systems."""
    if options.sources:
        _sources(options)
        return
    word, aliases = options.word.lower(), system_aliases()
    named = [name for name in system_names() if word in " ".join((name, *aliases[name])).lower()]
    if not named:
        raise ConfigError(
            f"no system is called anything like {word!r}{nearest(word, system_names())}"
        )
    found = [load_system(name) for name in named]
    if options.json:
        write_json([_facts(system) for system in found])
        return
    from reports.table import table

    columns = ("system", "bf16 or fp16", "memory", "bandwidth", "per node", "link", "calibrated")
    show(table(columns, [_row(system) for system in found], left=("system", "calibrated")))


def _facts(system: System) -> dict[str, Any]:
    device = system.device
    return {
        "system": system.name,
        "device": device.name,
        "peak_flops": device.peak_flops,
        "memory_B": device.memory_B,
        "memory_bandwidth_Bps": device.memory_bandwidth_Bps,
        "devices_per_node": system.devices_per_node,
        "nodes": system.nodes,
        "link_Bps": system.intra_node.bandwidth_Bps if system.intra_node else None,
        "calibrated_for": _engines(system.name),
    }


def _row(system: System) -> list[str]:
    device = system.device
    peak = max(device.peak_flops.get("bf16", 0.0), device.peak_flops.get("fp16", 0.0))
    link = system.intra_node
    return [
        system.name,
        quantity(peak, "compute", 4) if peak else "",
        quantity(device.memory_B, "bytes", 3),
        quantity(device.memory_bandwidth_Bps, "bandwidth", 4),
        str(system.devices_per_node),
        quantity(link.bandwidth_Bps, "bandwidth", 3) if link else "",
        ", ".join(_engines(system.name)),
    ]


def _engines(name: str) -> list[str]:
    from analyzer.calibrated import calibrations

    return [engine for system, engine in calibrations() if system == name]


def _sources(options: Namespace) -> None:
    if not options.word:
        raise ConfigError("--sources needs the name of a system")
    system = load_system(options.word)
    known = {path: (value, system.source_of(path)) for path, value in figures(system).items()}
    if options.json:
        cited = {path: {"value": value, "source": said} for path, (value, said) in known.items()}
        write_json({"system": system.name, "figures": cited})
        return
    from reports.table import table

    rows = [(path, f"{value:g}", said) for path, (value, said) in known.items()]
    show(table(("figure", "value", "source"), rows, left=("figure", "source")))
