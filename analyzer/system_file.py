"""Reading one system from a TOML file, strictly.

`base = "NAME"` starts from another system and changes what is written. Where a key ends in a unit
(`memory_B`, `latency_s`, `peak_flops`), a number is in SI units and a text is a quantity: "24 GiB",
"2 us", "71 TFLOP/s". After reading, every figure has a source of its own in `System.sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from analyzer import units
from analyzer.errors import ConfigError, nearest
from analyzer.strict import convert, decode_toml
from analyzer.system import System, figures

Table = dict[str, Any]
Resolve = Callable[[str, Path], Path]
"""(name of a base, file that names it) → file of the base."""

_DEEPEST = 8
_OF_SUFFIX = {
    "_B": "bytes",
    "_Bps": "bandwidth",
    "_s": "time",
    "_W": "power",
    "_Hz": "frequency",
    "_flops": "compute",
}
_OWN = ("name", "aliases", "note", "sources")
"""What a system does not take over from its base."""
_PARTS_WITH_NAMES = ("intra_node", "inter_node", "host_link", "disk")
"""Parts that a name of their own makes new: nothing of the base's part is left in them."""


def read_system(path: Path, resolve: Resolve, depth: int = 0) -> System:
    """The system that `path` describes; raises ConfigError naming file and key."""
    if depth > _DEEPEST:
        raise ConfigError(f"{path}: base: systems rest on each other in a circle")
    document = _quantities(decode_toml(path, dict[str, Any]), str(path), "")
    cited = document.pop("sources", {})
    base = _base(document.pop("base", None), path, resolve, depth)
    written = set(_leaves(document, ""))
    merged = _merge(_inherited(base), document) if base else document
    system = convert({**merged, "sources": cited}, System, where=str(path))
    return msgspec.structs.replace(system, sources=_sources(system, base, written, path))


def _base(name: object, path: Path, resolve: Resolve, depth: int) -> System | None:
    if name is None:
        return None
    if not isinstance(name, str):
        raise ConfigError(f"{path}: base: give the name of a system or of a .toml file")
    return read_system(resolve(name, path), resolve, depth + 1)


def _inherited(base: System) -> Table:
    plain: Table = msgspec.to_builtins(base)
    return {key: _without_none(value) for key, value in plain.items() if key not in _OWN}


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_none(inner) for key, inner in value.items() if inner is not None}
    return value


def _merge(base: Table, changes: Table, path: str = "") -> Table:
    merged = {key: value for key, value in base.items() if value is not None}
    for key, value in changes.items():
        old = merged.get(key)
        fresh = not path and key in _PARTS_WITH_NAMES and "name" in value
        deeper = isinstance(old, dict) and isinstance(value, dict) and not fresh
        merged[key] = _merge(merged[key], value, key) if deeper else value
    return merged


def _quantities(table: Table, where: str, path: str) -> Table:
    """`table` with every text under a key that ends in a unit read as a quantity."""
    read: Table = {}
    for key, value in table.items():
        at = f"{path}.{key}" if path else key
        dimension = _dimension(path, key)
        if isinstance(value, dict):
            read[key] = value if at == "sources" else _quantities(value, where, at)
        elif isinstance(value, str) and dimension:
            read[key] = _quantity(value, dimension, f"{where}: {at}")
        else:
            read[key] = value
    return read


def _dimension(path: str, key: str) -> str | None:
    if path.endswith("peak_flops"):
        return "compute"
    return next((kind for suffix, kind in _OF_SUFFIX.items() if key.endswith(suffix)), None)


def _quantity(text: str, dimension: str, where: str) -> float:
    try:
        return units.parse(text, dimension)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None


def _sources(system: System, base: System | None, written: set[str], path: Path) -> dict[str, str]:
    """Every figure with its own source: cited here, taken over, or the user's word."""
    known = figures(system)
    for cited in system.sources:
        if not any(figure == cited or figure.startswith(f"{cited}.") for figure in known):
            meant = nearest(cited, known)
            raise ConfigError(f"{path}: sources: there is no figure {cited!r}{meant}")
    found = {}
    for figure in known:
        inherited = base.source_of(figure) if base and figure not in written else ""
        found[figure] = inherited or system.source_of(figure) or f"given: {path.name}"
    return found


def _leaves(table: Table, prefix: str) -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
