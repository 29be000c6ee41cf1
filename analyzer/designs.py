"""Designs of experiments over a space of plans and loads: grids, random and Latin-hypercube points.

A point follows from its number alone, so any slice of a design can be made anywhere, in any order,
and is the same each time: that is what lets a sweep be cut up, resumed and spread over machines.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, nearest

Array = NDArray[np.float64]
Words = NDArray[np.uint64]

KINDS = ("grid", "random", "latin-hypercube")
NUMBERS = (
    "batch", "input_tokens", "output_tokens", "tp", "pp", "dp", "ep", "attention_dp",
    "chunk_tokens",
)  # fmt: skip
WORDS = ("model", "system", "weights", "kv")
AXES = (*WORDS, *NUMBERS)
MOST = 10**9
"""Points of one design."""


class Range(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whole numbers from `low` to `high`; a grid takes every `step`-th, the others any."""

    low: int
    high: int
    step: int = 1
    log: bool = False
    """Spread evenly over orders of magnitude; not for grids."""

    def __post_init__(self) -> None:
        if self.high < self.low or self.low < (1 if self.log else 0) or self.step < 1:
            raise ConfigError(
                f"a range from {self.low} to {self.high} in steps of {self.step} holds no values"
            )


Axis = list[int] | list[str] | Range


class Design(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Points over some axes."""

    kind: str = "grid"
    axes: dict[str, Any]
    points: int | None = None
    """How many; of a grid, all."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(
                f"design {self.kind!r} is unknown{nearest(self.kind, KINDS)}; "
                f"use {', '.join(KINDS)}"
            )
        if (self.points is None) != (self.kind == "grid"):
            said = (
                "has as many points as its axes make" if self.kind == "grid" else "needs 'points'"
            )
            raise ConfigError(f"a design of kind {self.kind!r} {said}")
        for name, axis in self.axes.items():
            _check_axis(name, axis, self.kind)
        if not 1 <= len(self) <= MOST:
            raise ConfigError(f"the design has {len(self):,} points; 1 to {MOST:,} are possible")

    def __len__(self) -> int:
        if self.points is not None:
            return self.points
        return math.prod(len(_listed(axis)) for axis in self.axes.values())

    def at(self, start: int, stop: int) -> dict[str, NDArray[Any]]:
        """Points `start` to `stop`, one array per axis."""
        index = np.arange(start, min(stop, len(self)), dtype=np.uint64)
        if self.kind == "grid":
            return self._grid(index)
        return {
            name: _value(axis, self._share(index, place))
            for place, (name, axis) in enumerate(self.axes.items())
        }

    def _grid(self, index: Words) -> dict[str, NDArray[Any]]:
        """The last axis moves fastest."""
        listed = {name: np.array(_listed(axis)) for name, axis in self.axes.items()}
        places = np.unravel_index(index.astype(np.intp), [len(v) for v in listed.values()])
        return {
            name: values[place]
            for (name, values), place in zip(listed.items(), places, strict=True)
        }

    def _share(self, index: Words, place: int) -> Array:
        """Where a point lies along one axis, in [0, 1)."""
        jitter = _uniform(_mixed(index, self.seed * 1009 + 2 * place + 1))
        if self.kind == "random":
            return jitter
        stratum = permuted(index, len(self), self.seed * 1009 + 2 * place)
        return np.minimum((stratum + jitter) / len(self), np.nextafter(1.0, 0.0))


def design_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """Axes of a document with their ranges read; errors name the axis."""
    read: dict[str, Any] = {}
    for name, axis in document.items():
        try:
            read[name] = list(axis) if isinstance(axis, list) else msgspec.convert(axis, Range)
        except msgspec.ValidationError as error:
            raise ConfigError(
                f"axes: {name} is a list of numbers or of words, or {{low, high, step}}: {error}"
            ) from None
    return read


def _check_axis(name: str, axis: Axis, kind: str) -> None:
    if name not in AXES:
        raise ConfigError(f"axes: {name!r} is unknown{nearest(name, AXES)}; use {', '.join(AXES)}")
    if isinstance(axis, Range):
        if name in WORDS:
            raise ConfigError(f"axes: {name} takes a list of words, not a range")
        if kind == "grid" and axis.log:
            raise ConfigError(f"axes: {name}: a grid takes a list or a range with a step, not log")
        values: list[Any] = [axis.low]
    else:
        values = list(axis)
    if not values:
        raise ConfigError(f"axes: {name} has no values")
    wanted = str if name in WORDS else int
    for value in values:
        if not isinstance(value, wanted) or isinstance(value, bool):
            raise ConfigError(f"axes: {name}: {value!r} is not a {_NAMES[wanted]}")
        if isinstance(value, int) and value < (0 if name == "chunk_tokens" else 1):
            raise ConfigError(f"axes: {name}: {value} is too small")


_NAMES = {str: "word", int: "whole number"}


def _listed(axis: Axis) -> list[Any]:
    return list(range(axis.low, axis.high + 1, axis.step)) if isinstance(axis, Range) else axis


def _value(axis: Axis, share: Array) -> NDArray[Any]:
    if not isinstance(axis, Range):
        values = np.array(axis)
        return np.asarray(values[(share * len(values)).astype(np.intp)])
    if axis.log:
        low, high = math.log(axis.low), math.log(axis.high + 1)
        numbers = np.floor(np.exp(low + share * (high - low)))
    else:
        numbers = axis.low + np.floor(share * (axis.high + 1 - axis.low))
    return np.clip(numbers, axis.low, axis.high).astype(np.int64)


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def _mixed(index: Words, salt: int) -> Words:
    """SplitMix64: every bit of the number and the salt moves every bit of the result."""
    with np.errstate(over="ignore"):
        word = index + np.uint64((salt * 0x9E3779B97F4A7C15 + 1) % 2**64)
        word = (word + _GOLDEN) * _FIRST
        word = (word ^ (word >> np.uint64(30))) * _FIRST
        word = (word ^ (word >> np.uint64(27))) * _SECOND
        return np.asarray(word ^ (word >> np.uint64(31)), dtype=np.uint64)


def _uniform(word: Words) -> Array:
    return np.asarray((word >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def permuted(index: Words, count: int, salt: int) -> Array:
    """Numbers below `count`, shuffled: a Feistel network on the next power of four, walked on
    until it lands below `count`. No table of the permutation is kept."""
    half = np.uint64(max((max(count - 1, 1).bit_length() + 1) // 2, 1))
    mask = np.uint64((1 << int(half)) - 1)
    found = index.copy()
    left = np.ones(len(index), dtype=bool)
    while left.any():
        found[left] = _feistel(found[left], half, mask, salt)
        left = found >= np.uint64(count)
    return found.astype(np.float64)


def _feistel(index: Words, half: np.uint64, mask: np.uint64, salt: int) -> Words:
    high, low = index >> half, index & mask
    for turn in range(4):
        high, low = low, high ^ (_mixed(low, salt * 7919 + turn + 13) & mask)
    return np.asarray((high << half) | low, dtype=np.uint64)
