"""Strict reading of configuration and data: what is not exactly right is an error that says where.

`decode_toml` and `decode_json` turn one document into one frozen `msgspec.Struct`; a key that the
type does not know, a missing one, a duplicate, a wrong type or a number that is not finite raises
`ConfigError` naming the file, the key and the nearest right key. `decode_lines` streams JSON lines
and raises `DataError` naming file and line. Tables are read by `read_csv_rows` (strict_csv.py).
"""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from analyzer.errors import ConfigError, DataError, InputError
from analyzer.strict_csv import TableSource, read_csv_rows
from analyzer.strict_fault import join, locate

__all__ = [
    "TableSource",
    "convert",
    "decode_json",
    "decode_lines",
    "decode_toml",
    "parse_json",
    "read_csv_rows",
]

T = TypeVar("T")


def decode_toml(path: str | Path, into: type[T]) -> T:
    """Read one TOML document as `into`; raises ConfigError naming file and key."""
    text = _read_text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply") from None
    except ValueError:
        raise ConfigError(f"{path}: holds a number with too many digits") from None
    return convert(document, into, where=str(path))


def decode_json(path: str | Path, into: type[T]) -> T:
    """Read one JSON document as `into`; raises ConfigError naming file and key."""
    return convert(parse_json(_read_text(path), str(path)), into, where=str(path))


def decode_lines(path: str | Path, into: type[T]) -> Iterator[tuple[int, T]]:
    """Yield (line number, value) for each line of a JSON-lines file, without holding the file."""
    line_no = 0
    try:
        with open(path, encoding="utf-8-sig", newline="\n") as lines:
            for line_no, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                where = f"{path}: line {line_no}"
                yield line_no, _convert_line(line, into, where)
    except UnicodeDecodeError:
        raise DataError(f"{path}: line {line_no + 1}: not UTF-8; save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None


def convert(document: object, into: type[T], where: str) -> T:
    """Turn plain dicts and lists into `into`; `where` begins every error message."""
    _require_finite(document, where, "")
    try:
        return msgspec.convert(document, into)
    except msgspec.ValidationError as error:
        fault = locate(document, into) or str(error)
        raise ConfigError(f"{where}: {fault}") from None
    except InputError as error:
        raise type(error)(f"{where}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply") from None


def _convert_line(line: str, into: type[T], where: str) -> T:
    try:
        return convert(parse_json(line, where), into, where)
    except InputError as error:
        raise DataError(str(error)) from None


def _read_text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def parse_json(text: str, where: str) -> object:
    """A JSON value without duplicate keys, NaN or infinities; raises ConfigError."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        mapping = dict(pairs)
        if len(mapping) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise ConfigError(f"{where}: key '{twice}' is given twice")
        return mapping

    def refuse(constant: str) -> object:
        raise ConfigError(f"{where}: {constant} is not a number that JSON knows; leave it out")

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{where}: not valid JSON: {error}") from None
    except RecursionError:
        raise ConfigError(f"{where}: nested too deeply") from None
    except ValueError:
        raise ConfigError(f"{where}: holds a number with too many digits") from None


def _require_finite(value: object, where: str, path: str) -> None:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(
                f"{where}: {path or 'value'}: {value} is not finite; give a finite number"
            )
    elif isinstance(value, dict):
        for key, inner in value.items():
            _require_finite(inner, where, join(path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _require_finite(inner, where, f"{path}[{index}]")
