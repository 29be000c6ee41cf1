"""The file behind a store: one header line, then one record per line, each with its checksum."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import DataError

SCHEMA = 1
RECORDS = "records.jsonl"


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="header"):
    """First line: what all records of the store have in common."""

    schema: int
    environment: str
    """Fingerprint of the facts."""
    facts: dict[str, str]


class Entry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="record"):
    """One record, still encoded, and the case that it answers."""

    case: str
    environment: str
    record: msgspec.Raw

    def decode(self, into: type[Any] = object) -> Any:
        """The record as `into`."""
        return msgspec.json.decode(self.record, type=into)


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    crc32: str
    body: msgspec.Raw


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a store's file holds."""

    header: Header | None
    entries: tuple[Entry, ...]
    torn_B: int
    """Bytes of a half-written last line, which are ignored."""
    whole_B: int
    """Bytes up to and including the last whole line."""
    ends_with_newline: bool = True

    @property
    def cases(self) -> frozenset[str]:
        return frozenset(entry.case for entry in self.entries)


def encode_line(body: Header | Entry) -> bytes:
    """One line of the file, newline included."""
    encoded = msgspec.json.encode(body)
    line = _Line(crc32=f"{zlib.crc32(encoded):08x}", body=msgspec.Raw(encoded))
    return msgspec.json.encode(line) + b"\n"


def _decode_line(data: bytes) -> Header | Entry | None:
    """The body of one line; None where the line is damaged."""
    try:
        line = msgspec.json.decode(data, type=_Line)
        if f"{zlib.crc32(line.body):08x}" != line.crc32:
            return None
        return msgspec.json.decode(line.body, type=Header | Entry)
    except msgspec.DecodeError:
        return None


def read(folder: str | Path) -> Contents:
    """Everything in a store; raises DataError on damage that a crash cannot explain."""
    path = Path(folder) / RECORDS
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Contents(header=None, entries=(), torn_B=0, whole_B=0)
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    return _parse(data, path)


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(offset of its end, line) for each line, the last one perhaps without its newline."""
    start = 0
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        yield end, data[start:end]
        start = end


def _parse(data: bytes, path: Path) -> Contents:
    header: Header | None = None
    entries: list[Entry] = []
    whole_B = 0
    for number, (end, line) in enumerate(_lines(data), 1):
        body = _decode_line(line)
        if body is None:
            if end < len(data):
                raise DataError(
                    f"{path}: line {number} is damaged (its checksum does not match); "
                    "remove that line or restore the file from a copy"
                )
            break
        if isinstance(body, Header):
            header = _accept_header(body, header, f"{path}: line {number}")
        elif header is None or body.environment != header.environment:
            raise DataError(f"{path}: line {number} was not measured in this store's environment")
        else:
            entries.append(body)
        whole_B = end
    return Contents(
        header=header,
        entries=tuple(entries),
        torn_B=len(data) - whole_B,
        whole_B=whole_B,
        ends_with_newline=data[:whole_B].endswith(b"\n") or not whole_B,
    )


def _accept_header(found: Header, earlier: Header | None, where: str) -> Header:
    if found.schema > SCHEMA:
        raise DataError(f"{where}: written by a newer version (schema {found.schema} > {SCHEMA})")
    if earlier is not None:
        raise DataError(f"{where}: a second header; two stores were glued together")
    return found
