"""One's own measurements on the way in: records of a profiler's store, made ready for a fit.

A profiler knows its machine by the name that the driver gives and its models by their
configurations. Here they get the name of the system that is being calibrated, and models that no
catalog has are written out so that they can be loaded like any other.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import msgspec

from analyzer.errors import DataError, InputError
from analyzer.models_catalog import resolve
from analyzer.records import Flag, Record
from analyzer.records_codec import decode_record

_TIMES = frozenset({"ttft_s", "tpot_s", "e2e_s"})
_OF_THE_MACHINE = frozenset({"noisy", "short", "throttled"})
"""Doubts about how calm the machine was, not about what was measured."""
KNOWN_WELL_ENOUGH = 0.1
"""Half-width of a median's interval up to which noise alone does not keep a record out of a fit."""


def as_measured_here(
    records: Iterable[Record], system: str, models: Path, doubtful: bool = False
) -> list[Record]:
    """Whole runs among the records, as measured on `system`; models' files go into `models`.

    Of a static batch or a closed loop; other kinds of record are passed on as they are, so that
    what leaves them out can say why. `doubtful` takes noisy and disturbed ones for what they say.
    """
    ready = []
    for record in records:
        looped = record.kind == "serving" and _TIMES & record.metrics.keys()
        kind = "e2e" if looped else record.kind
        if kind != "e2e":
            ready.append(record)
            continue
        scenario = msgspec.structs.replace(
            record.scenario, hardware=system, model=_model(record, models)
        )
        flags = tuple(_weighed(flag, record, doubtful) for flag in record.flags)
        ready.append(msgspec.structs.replace(record, kind=kind, scenario=scenario, flags=flags))
    return ready


def _weighed(flag: Flag, record: Record, doubtful: bool) -> Flag:
    """Plain noise is no doubt about a record whose median is known well enough to learn from.

    A noisy median errs either way and is one row of many; a disturbed one is only ever too slow.
    """
    disturbed = any("disturbed" in other.reason for other in record.flags)
    plain = not disturbed and _half_width(record) <= KNOWN_WELL_ENOUGH
    if flag.code not in _OF_THE_MACHINE or not (plain or doubtful):
        return flag
    return msgspec.structs.replace(flag, severity="note")


def _half_width(record: Record) -> float:
    """Half the 95 % interval of the worst known time, as a share of it."""
    shares = [
        (spread["ci_high"] - spread["ci_low"]) / 2.0 / record.metrics[name]
        for name, spread in record.spread.items()
        if name in _TIMES and {"ci_low", "ci_high"} <= spread.keys()
    ]
    return max(shares, default=0.0)


def _model(record: Record, folder: Path) -> str:
    """A name that loads: the catalog's, or that of a file with the record's own configuration."""
    name, config = record.scenario.model, record.case.get("config")
    if not isinstance(config, str) or _in_catalog(name):
        return name
    file = folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name) or 'model'}.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(config, encoding="utf-8")
    return str(file)


def _in_catalog(name: str) -> bool:
    try:
        return resolve(name) is not None
    except InputError:
        return False


def read_json_lines(path: Path) -> list[Record]:
    """Records of an exported file, one JSON object per line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is not text in UTF-8; give records as JSON lines") from None
    found = [
        decode_record(line, f"{path}: line {number}")
        for number, line in enumerate(lines, 1)
        if line.strip()
    ]
    if not found:
        raise DataError(f"{path}: holds no records")
    return found
