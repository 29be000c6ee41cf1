"""A system description from measurements alone, for a machine that has no data sheet.

A ceiling is the best that any kernel reached here: arithmetic per number format from matrix
products, memory bandwidth from arrays far larger than the caches, link and disk bandwidth from the
largest transfers, link latency from the smallest. The fast end of a record's samples (their tenth
percentile) is what counts: whatever disturbs a measurement only makes it slower. Every figure
carries the ids of the records that it came from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from analyzer.errors import CalibrationError
from analyzer.records import Record
from analyzer.records_codec import record_id

FAR_LARGER = 4.0
"""Arrays of at least so many times the last-level cache show the memory behind it."""
ID_DIGITS = 12


class Ceiling(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of a system, in the unit that its path ends in."""

    path: str
    value: float
    records: tuple[str, ...]
    how: str
    doubt: str = ""
    """Why the record is doubtful, where it is."""

    @property
    def source(self) -> str:
        """As a system file cites it."""
        doubt = f"; {self.doubt}" if self.doubt else ""
        return f"measured: {self.how} (record {', '.join(self.records)}{doubt})"


def ceilings(records: Iterable[Record]) -> dict[str, Ceiling]:
    """Every figure of a system that the records allow, by its dotted path."""
    timed = [record for record in records if record.metrics.get("latency_s")]
    found: list[Ceiling | None] = [*_peaks(timed), _memory_bandwidth(timed)]
    found += [
        _fastest("host_link.h2d_Bps", _of(timed, "h2d", variant="pinned"), "pinned copies"),
        _fastest("host_link.d2h_Bps", _of(timed, "d2h", variant="pinned"), "pinned copies"),
        _quickest("host_link.latency_s", _of(timed, "h2d", variant="pinned"), "smallest copy"),
        _fastest("disk.read_Bps", _of(timed, "disk_read", variant="direct"), "O_DIRECT reads"),
        _fastest("disk.write_Bps", _of(timed, "disk_write", variant="direct"), "O_DIRECT writes"),
        _fastest("intra_node.bandwidth_Bps", _collectives(timed), "bus bandwidth of collectives"),
        _quickest("intra_node.latency_s", _of(timed, "p2p"), "smallest message between two ranks"),
    ]
    return {ceiling.path: ceiling for ceiling in found if ceiling is not None}


def fast_s(record: Record) -> float:
    """The fast end of a record's samples, in seconds."""
    return record.spread.get("latency_s", {}).get("p10") or record.metrics["latency_s"]


def _bandwidth_Bps(record: Record) -> float:
    """Bytes per second at the fast end."""
    return record.metrics["bandwidth_Bps"] * record.metrics["latency_s"] / fast_s(record)


def _of(records: Sequence[Record], op: str, **wanted: object) -> list[Record]:
    return [
        record
        for record in records
        if record.case.get("op") == op
        and all(record.case.get(key) == value for key, value in wanted.items())
    ]


def _collectives(records: Sequence[Record]) -> list[Record]:
    return [record for record in records if record.kind == "collective"]


def _best(
    path: str, records: Sequence[Record], value: Callable[[Record], float], how: str
) -> Ceiling | None:
    usable = [record for record in records if value(record) > 0]
    if not usable:
        return None
    best = max(usable, key=value)
    return _ceiling(path, value(best), best, how)


def _ceiling(path: str, value: float, record: Record, how: str) -> Ceiling:
    return Ceiling(
        path=path,
        value=float(f"{value:.4g}"),
        records=(record_id(record)[:ID_DIGITS],),
        how=how,
        doubt="; ".join(f"{flag.code}: {flag.reason}" for flag in record.flags),
    )


def _peaks(records: Sequence[Record]) -> list[Ceiling | None]:
    """Best matrix product of each format."""
    products = _of(records, "gemm")
    formats = sorted({str(record.case.get("dtype")) for record in products})

    def speed(record: Record) -> float:
        return record.metrics.get("arithmetic_FLOP", 0.0) / fast_s(record)

    return [
        _best(
            f"device.peak_flops.{name}",
            [record for record in products if record.case.get("dtype") == name],
            speed,
            f"fastest {name} matrix product",
        )
        for name in formats
    ]


def _memory_bandwidth(records: Sequence[Record]) -> Ceiling | None:
    """Best of reading, copying, adding, and of matrix times vector, on far more than the cache."""

    def is_far_larger(record: Record) -> bool:
        cache_B = float(record.environment.get("cache_B") or 0.0)
        moved_B = record.metrics.get("bandwidth_Bps", 0.0) * record.metrics["latency_s"]
        return moved_B >= FAR_LARGER * cache_B

    streams = [record for record in records if str(record.case.get("op")).startswith("memory_")]
    vectors = [record for record in _of(records, "gemm") if record.case.get("m") == 1]
    cold = [record for record in vectors if record.case.get("cache") == "cold"]
    usable = [record for record in [*streams, *cold] if is_far_larger(record)]
    how = "fastest stream over arrays far larger than the cache"
    return _best("device.memory_bandwidth_Bps", usable, _bandwidth_Bps, how)


def _fastest(path: str, records: Sequence[Record], how: str) -> Ceiling | None:
    with_bytes = [record for record in records if "bandwidth_Bps" in record.metrics]
    return _best(path, with_bytes, _bandwidth_Bps, f"fastest of the {how}")


def _quickest(path: str, records: Sequence[Record], how: str) -> Ceiling | None:
    if not records:
        return None
    best = min(records, key=fast_s)
    return _ceiling(path, fast_s(best), best, how)


def system_document(name: str, records: Sequence[Record]) -> dict[str, Any]:
    """A system file's content: measured ceilings, the rest as the driver reports it.

    Raises CalibrationError when the records lack what no system can do without.
    """
    found = ceilings(records)
    facts = _facts(records)
    document: dict[str, Any] = {"name": name, "device": _device(facts, records)}
    sources = {"device": "measured: as the driver or the operating system reports it"}
    for path, ceiling in found.items():
        _put(document, path, ceiling.value)
        sources[path] = ceiling.source
    for needed in ("memory_bandwidth_Bps", "peak_flops", "memory_B"):
        if needed not in document["device"]:
            raise CalibrationError(
                f"the records of {name} do not tell device.{needed}; "
                "measure the profiles operators and links first"
            )
    _complete(document, sources, facts)
    document["sources"] = sources
    return document


def _facts(records: Sequence[Record]) -> dict[str, Any]:
    return dict(records[0].environment) if records else {}


def _device(facts: dict[str, Any], records: Sequence[Record]) -> dict[str, Any]:
    is_gpu = str(facts.get("device", "")).startswith("cuda")
    device: dict[str, Any] = {
        "name": next((record.scenario.hardware for record in records), "unknown"),
        "kind": "gpu" if is_gpu else "cpu",
    }
    if "device_memory_B" in facts:
        device["memory_B"] = float(facts["device_memory_B"])
    if "cache_B" in facts:
        device["l2_B"] = float(facts["cache_B"])
    if is_gpu and "gpu_units" in facts:
        device |= {"units": float(facts["gpu_units"]), "unit": "SM"}
    cores = [facts.get(name, "") for name in ("threads", "cpu_cores")]
    counted = [float(text) for text in cores if str(text).isdigit()]
    if not is_gpu and counted:
        device |= {"units": counted[0], "unit": "core"}
    return device


def _complete(document: dict[str, Any], sources: dict[str, str], facts: dict[str, Any]) -> None:
    """Parts of a system come whole or not at all: fill from what is known, or leave them out."""
    if "intra_node" in document:
        ranks = int(facts.get("gpu_count", 1))
        document["devices_per_node"] = max(1, ranks)
        document["intra_node"].setdefault("name", "measured between processes")
    if "host_link" in document:
        document["host_link"].setdefault("name", "host link")
    if "disk" in document:
        document["disk"] |= {"name": "disk", "capacity_B": float(facts.get("disk_B", 0.0))}
    whole = {
        "intra_node": ("bandwidth_Bps", "latency_s"),
        "host_link": ("h2d_Bps", "d2h_Bps", "latency_s"),
        "disk": ("capacity_B", "read_Bps", "write_Bps"),
    }
    alone = int(document.get("devices_per_node", 1)) == 1
    for part, needed in whole.items():
        held = document.get(part, {})
        incomplete = any(not held.get(key) for key in needed)
        if part in document and (incomplete or (part == "intra_node" and alone)):
            del document[part]
            for path in [path for path in sources if path.startswith(f"{part}.")]:
                del sources[path]


def _put(document: dict[str, Any], path: str, value: float) -> None:
    *parts, last = path.split(".")
    for part in parts:
        document = document.setdefault(part, {})
    document[last] = value


def to_toml(document: dict[str, Any]) -> str:
    """The document as TOML, plain values before tables."""
    lines: list[str] = []
    _write_table(lines, document, "")
    return "\n".join(lines).lstrip("\n") + "\n"


def _write_table(lines: list[str], table: dict[str, Any], prefix: str) -> None:
    tables = {key: value for key, value in table.items() if isinstance(value, dict)}
    for key, value in table.items():
        if key not in tables:
            lines.append(f"{_key(key)} = {_value(value)}")
    for key, value in tables.items():
        if value:
            lines += ["", f"[{prefix}{_key(key)}]"]
            _write_table(lines, value, f"{prefix}{_key(key)}.")


def _key(key: str) -> str:
    return (
        key
        if key.replace("_", "").replace("-", "").isalnum()
        else msgspec.json.encode(key).decode()
    )


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else msgspec.json.encode(value).decode()
