"""An append-only store of measurements that a crash cannot hurt.

One folder holds `records.jsonl` and `store.lock`. Each line is one JSON object with a CRC-32 of its
body; the first says which environment all others come from. A record is acknowledged (`append`
returns) only once the operating system has it, on disk if `durable`. What a crash leaves half
written at the end is dropped, counted and cut off before the next append; damage anywhere else is
an error that names the line. Which cases are done follows from the records alone.
"""

from __future__ import annotations

import fcntl
import math
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from analyzer.errors import ConfigError, InputError, ProfilerError
from profilers.store_file import RECORDS, SCHEMA, Contents, Entry, Header, encode_line, read

__all__ = [
    "RECORDS",
    "SCHEMA",
    "Contents",
    "Disk",
    "Entry",
    "Header",
    "Store",
    "encode_line",
    "read",
]

LOCK = "store.lock"


class Disk:
    """The system calls that can fail; tests replace them by failing ones."""

    def open_append(self, path: Path) -> int:
        return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def write(self, descriptor: int, data: bytes) -> int:
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        os.fsync(descriptor)

    def truncate(self, descriptor: int, length_B: int) -> None:
        os.ftruncate(descriptor, length_B)


class Store:
    """Appends records of one environment to one folder; one process at a time."""

    def __init__(
        self,
        folder: str | Path,
        facts: Mapping[str, str],
        *,
        fingerprint: str,
        durable: bool = True,
        disk: Disk | None = None,
    ) -> None:
        self.folder = Path(folder)
        self.path = self.folder / RECORDS
        self._disk = disk or Disk()
        self._durable = durable
        self._fingerprint = fingerprint
        self._lock = _take_lock(self.folder)
        try:
            self.contents = read(self.folder)
            _refuse_other_environment(self.contents.header, facts, fingerprint, self.path)
            self._descriptor = self._open()
        except BaseException:
            os.close(self._lock)
            raise
        self._length_B = 0
        self._done = set(self.contents.cases)
        try:
            self._repair()
            if self.contents.header is None:
                self._write(Header(schema=SCHEMA, environment=fingerprint, facts=dict(facts)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def done(self) -> frozenset[str]:
        """Ids of the cases that have a record."""
        return frozenset(self._done)

    def append(self, case: str, record: Any) -> None:
        """Store one record; when this returns, a crash of this process cannot lose it."""
        plain = msgspec.to_builtins(record)
        _require_finite(plain, case)
        encoded = msgspec.Raw(msgspec.json.encode(record))
        self._write(Entry(case=case, environment=self._fingerprint, record=encoded))
        self._done.add(case)

    def close(self) -> None:
        """Give the folder back."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._descriptor = self._lock = -1

    def _open(self) -> int:
        is_new = not self.path.exists()
        try:
            descriptor = self._disk.open_append(self.path)
            if is_new and self._durable:
                _sync_folder(self.folder)
        except OSError as error:
            raise ProfilerError(f"{self.path}: cannot be written: {error.strerror}") from None
        return descriptor

    def _repair(self) -> None:
        """Cut off a torn tail; end a whole last line that lost only its newline."""
        self._length_B = self.contents.whole_B
        if self.contents.torn_B:
            self._cut_back()
        if not self.contents.ends_with_newline:
            self._put(b"\n")

    def _cut_back(self) -> None:
        try:
            self._disk.truncate(self._descriptor, self._length_B)
        except OSError as error:
            raise ProfilerError(f"{self.path}: cannot be repaired: {error.strerror}") from None

    def _write(self, body: Header | Entry) -> None:
        if self._descriptor < 0:
            raise ProfilerError(f"{self.path}: the store is closed")
        self._put(encode_line(body))

    def _put(self, data: bytes) -> None:
        """All of `data` or nothing: what a full disk leaves half written is cut off again."""
        written = 0
        try:
            while written < len(data):
                written += self._disk.write(self._descriptor, data[written:])
            if self._durable:
                self._disk.sync(self._descriptor)
        except OSError as error:
            self._cut_back()
            raise ProfilerError(
                f"{self.path}: the record was not stored: {error.strerror}; "
                "make room or choose another folder, then run again to go on"
            ) from None
        self._length_B += len(data)


def _take_lock(folder: Path) -> int:
    """An exclusive lock on the folder, held until closed or until this process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise ProfilerError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        os.close(descriptor)
        raise InputError(
            f"{folder}: in use by another run (process {owner}); wait for it or choose another "
            "folder"
        ) from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def _refuse_other_environment(
    header: Header | None, facts: Mapping[str, str], fingerprint: str, path: Path
) -> None:
    if header is None or header.environment == fingerprint:
        return
    changed = [
        f"{name} was {header.facts.get(name, 'absent')!r}, is {facts.get(name, 'absent')!r}"
        for name in sorted({*header.facts, *facts})
        if header.facts.get(name) != facts.get(name)
    ]
    raise ConfigError(
        f"{path}: holds measurements of another environment ({'; '.join(changed)}); "
        "choose another folder for this one"
    )


def _require_finite(value: Any, case: str) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ProfilerError(f"case {case}: a figure is not a finite number; nothing was stored")
    children = value.values() if isinstance(value, dict) else value
    if isinstance(value, dict | list | tuple):
        for child in children:
            _require_finite(child, case)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
