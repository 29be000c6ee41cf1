"""Records of a store, for whoever uses them: read, summarised, copied to a folder of data."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from analyzer.errors import InputError, ProfilerError
from analyzer.records import Record
from analyzer.records_codec import encode_record
from profilers.environment import short_paths
from profilers.store import read


def load_records(folder: str | Path) -> tuple[Record, ...]:
    """The latest record of every case of a store, failures included, oldest first."""
    contents = read(folder)
    if contents.header is None:
        raise InputError(f"{folder}: holds no records; run `plumbline profile` first")
    latest = {entry.case: entry for entry in contents.entries}
    return tuple(entry.decode(Record) for entry in latest.values())


def published(records: Iterable[Record]) -> list[Record]:
    """Records as they may be shown to anybody: command lines without the folders of a machine."""
    return [_without_folders(record) for record in records]


def _without_folders(record: Record) -> Record:
    command = record.environment.get("command")
    if not isinstance(command, str):
        return record
    environment = {**record.environment, "command": short_paths(command)}
    return msgspec.structs.replace(record, environment=environment)


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """What a store holds, in numbers."""

    records: int
    by_kind: dict[str, int]
    by_doubt: dict[str, int]
    """Records by their doubts' codes; `none` for those without."""


def overview(records: Sequence[Record]) -> Overview:
    """Counts by kind and by doubt."""
    doubts: Counter[str] = Counter()
    for record in records:
        doubts.update({flag.code for flag in record.flags} or {"none"})
    return Overview(
        records=len(records),
        by_kind=dict(sorted(Counter(record.kind for record in records).items())),
        by_doubt=dict(sorted(doubts.items())),
    )


def write_records(records: Iterable[Record], path: str | Path, replace: bool = False) -> int:
    """Write records as JSON lines, all or nothing; returns how many there were."""
    target = Path(path)
    if target.exists() and not replace:
        raise InputError(f"{target}: exists; say that it may be replaced, or choose another name")
    lines = [encode_record(record) for record in records]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, "".join(f"{line}\n" for line in lines).encode())
    except OSError as error:
        raise ProfilerError(f"{target}: cannot be written: {error.strerror}") from None
    return len(lines)


def _replace(target: Path, data: bytes) -> None:
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise


def split_by_folder(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by the file that they belong in: `perf/<kind>.jsonl` or `mem/memory.jsonl`."""
    files: dict[str, list[Record]] = {}
    for record in records:
        room = "mem" if record.kind == "memory" else "perf"
        files.setdefault(f"{room}/{record.kind}.jsonl", []).append(record)
    return files
