"""ASTRA-sim style network files: one list each of topology, npus_count, bandwidth and latency.

    topology: [ Ring, Switch ]
    npus_count: [ 8, 4 ]
    bandwidth: [ 50.0, 25.0 ]   # GB/s
    latency: [ 500.0, 2000.0 ]  # ns

Only this much of YAML is read: lists on one line or as `- item` lines, comments, plain words.
"""

from __future__ import annotations

import re
from pathlib import Path

from analyzer.errors import DataError, nearest
from analyzer.network.topology import Dimension, Topology, product

KINDS = {"ring": "ring", "fullyconnected": "full", "switch": "switch", "mesh": "line"}
KEYS = ("topology", "npus_count", "bandwidth", "latency")
_ALSO_KNOWN = {"npus-count": "npus_count", "topology-name": "topology"}


def read_network(path: Path) -> Topology:
    """The topology that a file describes."""
    return product(read_dimensions(path))


def read_dimensions(path: Path) -> list[Dimension]:
    """Its dimensions, the innermost first; every fault is a DataError that names file and key."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    return _dimensions(_lists(text, path), path)


def _dimensions(lists: dict[str, list[str]], path: Path) -> list[Dimension]:
    count = len(lists["topology"])
    for key in KEYS:
        if len(lists[key]) != count:
            raise DataError(f"{path}: {key} has {len(lists[key])} entries, topology has {count}")
    dimensions = []
    for kind, npus, bandwidth, latency in zip(*(lists[key] for key in KEYS), strict=True):
        folded = kind.lower().replace("_", "")
        if folded not in KINDS:
            raise DataError(f"{path}: topology: unknown {kind!r}{nearest(folded, KINDS)}")
        size = _number(npus, "npus_count", path)
        if size != int(size) or size < 1:
            raise DataError(f"{path}: npus_count: {npus} is not a whole number of 1 or more")
        Bps = 1e9 * _number(bandwidth, "bandwidth", path)
        latency_s = 1e-9 * _number(latency, "latency", path)
        if Bps <= 0 or latency_s < 0:
            raise DataError(f"{path}: bandwidth must be above 0 and latency 0 or more")
        dimensions.append(Dimension(KINDS[folded], int(size), Bps, latency_s))
    return dimensions


def _number(text: str, key: str, path: Path) -> float:
    try:
        return float(text)
    except ValueError:
        raise DataError(f"{path}: {key}: {text!r} is not a number") from None


def _lists(text: str, path: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    key = ""
    for line_no, raw in enumerate(text.splitlines(), 1):
        line = raw.split("#", 1)[0].strip()
        if not line or line == "---":
            continue
        if line.startswith("-") and key:
            found[key].append(line[1:].strip().strip("'\""))
            continue
        name, colon, rest = line.partition(":")
        key = _ALSO_KNOWN.get(name.strip(), name.strip())
        if not colon or key not in KEYS:
            hint = nearest(key, KEYS)
            raise DataError(f"{path}: line {line_no}: unknown key {name.strip()!r}{hint}")
        found[key] = [item.strip("'\"") for item in re.findall(r"[^\s,\[\]]+", rest)]
    missing = [key for key in KEYS if not found.get(key)]
    if missing:
        raise DataError(f"{path}: {', '.join(missing)} missing; each is a list, one per dimension")
    return found
