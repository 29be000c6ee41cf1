"""Strict reading of a parsed `config.json`: a missing or mistyped key is an error that names it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from analyzer.errors import ConfigError, nearest

T = TypeVar("T")

_REQUIRED: Any = object()


class Fields:
    """A configuration with typed access. Extra keys are normal there and are left alone.

    Every getter takes one or more spellings of a key and returns the first that is present and
    not null; without a default, absence is a ConfigError.
    """

    def __init__(self, raw: Mapping[str, Any], where: str) -> None:
        self.raw = raw
        self.where = where

    def has(self, *keys: str) -> bool:
        """True where one of the spellings is present and not null."""
        return any(self.raw.get(key) is not None for key in keys)

    def _value(self, keys: tuple[str, ...], default: Any) -> tuple[str, Any]:
        for key in keys:
            if self.raw.get(key) is not None:
                return key, self.raw[key]
        if default is _REQUIRED:
            also = f" (or {', '.join(map(repr, keys[1:]))})" if len(keys) > 1 else ""
            hint = nearest(keys[0], self.raw)
            raise ConfigError(f"{self.where}: missing key {keys[0]!r}{also}{hint}")
        return keys[0], default

    def _wrong(self, key: str, value: object, wanted: str) -> ConfigError:
        return ConfigError(f"{self.where}: {key!r} must be {wanted}, not {value!r}")

    def size(self, *keys: str, default: int = _REQUIRED) -> int:
        """A positive whole number."""
        return self.checked_size(*self._value(keys, default))

    def checked_size(self, key: str, value: object) -> int:
        """`value` as a positive whole number, or an error that names `key`."""
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise self._wrong(key, value, "a positive whole number")
        return value

    def count(self, *keys: str, default: int = _REQUIRED) -> int:
        """A whole number that may be zero."""
        key, value = self._value(keys, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self._wrong(key, value, "a whole number, zero or more")
        return value

    def optional_size(self, *keys: str) -> int | None:
        """A positive whole number, or None where the key is absent or null."""
        return self.size(*keys) if self.has(*keys) else None

    def number(self, *keys: str, default: float = _REQUIRED) -> float:
        """A finite number."""
        key, value = self._value(keys, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(key, value, "a number")
        return float(value)

    def flag(self, *keys: str, default: bool = _REQUIRED) -> bool:
        """True or false."""
        key, value = self._value(keys, default)
        if not isinstance(value, bool):
            raise self._wrong(key, value, "true or false")
        return value

    def text(self, *keys: str, default: str = _REQUIRED) -> str:
        """A string."""
        key, value = self._value(keys, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "a string")
        return value

    def sequence(self, *keys: str, length: int | None = None) -> Sequence[Any]:
        """A list, of `length` entries where that is given."""
        key, value = self._value(keys, _REQUIRED)
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise self._wrong(key, value, "a list")
        if length is not None and len(value) != length:
            raise ConfigError(
                f"{self.where}: {key!r} has {len(value)} entries, but there are {length} layers"
            )
        return value

    def child(self, *keys: str) -> Fields:
        """A nested object."""
        key, value = self._value(keys, _REQUIRED)
        if not isinstance(value, Mapping):
            raise self._wrong(key, value, "an object")
        return Fields(value, f"{self.where}.{key}")

    def optional_child(self, *keys: str) -> Fields:
        """A nested object, empty where the key is absent."""
        return self.child(*keys) if self.has(*keys) else Fields({}, f"{self.where}.{keys[0]}")

    def choice(self, key: str, table: Mapping[str, T], value: object) -> T:
        """`table[value]`; an error that names the nearest right names otherwise."""
        if not isinstance(value, str) or value not in table:
            hint = nearest(str(value), table)
            raise ConfigError(f"{self.where}: {key!r} holds unknown kind {value!r}{hint}")
        return table[value]

    def conflict(self, key: str, value: object, other: str, limit: object) -> ConfigError:
        """The error for a value that another one rules out."""
        return ConfigError(f"{self.where}: {key!r} {value} does not go with {other!r} {limit}")

    def divide(self, key: str, total: int, by_key: str, parts: int) -> int:
        """`total / parts`, which must come out whole."""
        if total % parts:
            raise ConfigError(f"{self.where}: {key!r} {total} is no multiple of {by_key!r} {parts}")
        return total // parts
