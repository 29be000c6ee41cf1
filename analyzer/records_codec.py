"""One record as one line of JSON, and back, whatever version wrote it.

The line carries the record's id, the hash of its content, so that a damaged or hand-edited line is
noticed. Older schemas are brought up to date step by step; a newer one is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec

from analyzer.errors import DataError, InputError
from analyzer.records import SCHEMA, Kind, Record, Scalar, Scenario
from analyzer.strict import convert, parse_json

Migration = Callable[[dict[str, Any]], dict[str, Any]]

MIGRATIONS: dict[int, Migration] = {}
"""From a schema to the next: MIGRATIONS[1] turns a record of schema 1 into one of schema 2."""

_EXACT = 2**53
"""Whole numbers up to here are the same as int and as float."""


def canonical_json(value: object) -> bytes:
    """The one spelling of a value: sorted keys, no spaces, 2.0 written as 2."""
    return msgspec.json.encode(_plain(msgspec.to_builtins(value)), order="sorted")


def content_id(value: object) -> str:
    """sha256 of the canonical spelling, in hexadecimal."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def record_id(record: Record) -> str:
    """Identity of a measurement: the hash of all that the record says."""
    return content_id(record)


def case_id(kind: Kind, scenario: Scenario, case: dict[str, Scalar]) -> str:
    """Identity of what was to be measured, before it was: the key that a campaign resumes by."""
    return content_id([kind, scenario, case])


def encode_record(record: Record) -> str:
    """The record as one line of JSON, without the line's end."""
    return msgspec.json.encode({"id": record_id(record), **_fields(record)}).decode()


def decode_record(
    line: str,
    where: str = "record",
    *,
    migrations: dict[int, Migration] = MIGRATIONS,
    newest: int = SCHEMA,
) -> Record:
    """Read one line; raises DataError when it is damaged, or newer than this program."""
    try:
        document = parse_json(line, where)
        if not isinstance(document, dict):
            raise DataError(f"{where}: a record is a JSON object")
        stated_id = document.pop("id", None)
        schema = document.get("schema")
        current = _migrated(document, where, migrations, newest)
        record = convert(current, Record, where)
    except DataError:
        raise
    except InputError as error:
        raise DataError(str(error)) from None
    if stated_id is not None and schema == newest and stated_id != record_id(record):
        raise DataError(f"{where}: the content does not match its id; the line was altered")
    return record


def _migrated(
    document: dict[str, Any], where: str, migrations: dict[int, Migration], newest: int
) -> dict[str, Any]:
    schema = document.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool) or schema < 1:
        raise DataError(f"{where}: 'schema' must be a whole number from 1 to {newest}")
    if schema > newest:
        raise DataError(
            f"{where}: written with schema {schema}, and this program reads up to {newest}; "
            "update plumbline"
        )
    for version in range(schema, newest):
        document = {**migrations[version](document), "schema": version + 1}
    return document


def _fields(record: Record) -> dict[str, Any]:
    """Fields that say something; defaults are left out, the schema never."""
    full = msgspec.to_builtins(record)
    empty: tuple[Any, ...] = ({}, [], (), None)
    kept = {k: value for k, value in full.items() if k == "metrics" or value not in empty}
    scenario = {name: value for name, value in kept["scenario"].items() if value not in ("", None)}
    return {**kept, "scenario": scenario}


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
        return int(value)
    return value
