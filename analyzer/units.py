"""Quantities at the edge: text with units to SI numbers, and back. The one place that scales.

Prefixes are exact: `GB` is 10^9 bytes, `GiB` is 2^30, and decimal digits are shifted before they
are rounded, so that "0.1 TB" is 100e9 to the last bit. `b` is a bit and `B` a byte; case matters.
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

from analyzer.errors import ConfigError, nearest

KB, MB, GB, TB = 1e3, 1e6, 1e9, 1e12
KIB, MIB, GIB, TIB = 2.0**10, 2.0**20, 2.0**30, 2.0**40
TERA = 1e12
MICRO = 1e-6
HOUR_S = 3600.0


class Dimension(NamedTuple):
    """One kind of quantity: its SI symbol, how else people spell it, and an example."""

    name: str
    noun: str
    symbol: str
    spellings: dict[str, float]
    """Spelling without prefix → worth in the SI unit; a longer spelling comes before its tail."""
    example: str
    counts: bool = True
    """Counted in whole things: thousandths of it (mB) are a slip of the shift key."""


_BIT = 0.125
DIMENSIONS: dict[str, Dimension] = {
    entry.name: entry
    for entry in (
        Dimension("bytes", "a size", "B", {"B": 1.0, "bit": _BIT, "b": _BIT}, "24 GiB"),
        Dimension(
            "bandwidth",
            "a bandwidth",
            "B/s",
            {"B/s": 1.0, "Bps": 1.0, "bit/s": _BIT, "b/s": _BIT, "bps": _BIT},
            "936 GB/s",
        ),
        Dimension(
            "compute",
            "a compute rate",
            "FLOP/s",
            {"FLOP/s": 1.0, "FLOPS": 1.0, "FLOPs": 1.0, "OP/s": 1.0, "OPS": 1.0},
            "71 TFLOP/s",
        ),
        Dimension("time", "a time", "s", {"s": 1.0}, "2 us", counts=False),
        Dimension("power", "a power", "W", {"W": 1.0}, "350 W", counts=False),
        Dimension("frequency", "a frequency", "Hz", {"Hz": 1.0}, "1.7 GHz"),
        Dimension("energy", "an energy", "J", {"J": 1.0}, "1.2 J", counts=False),
    )
}

_UP = {"": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_DOWN = {"f": -15, "p": -12, "n": -9, "u": -6, "m": -3}
_ALSO = {"K": 3}
_ALSO_DOWN = {"µ": -6, "μ": -6}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50}
_QUANTITY = re.compile(
    r"\s*([+-]?(?:\d[\d_]*(?:\.\d*)?|\.\d+))(?:[eE]([+-]?\d{1,4})(?![\w.]))?\s*([^\s\d.]\S*)?\s*"
)


def parse(text: str, dimension: str) -> float:
    """The SI value of a quantity such as "936 GB/s"; a bare number is in SI units already."""
    kind = _kind(dimension)
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ConfigError(_complaint(text, kind))
    digits, exponent, unit = match.groups()
    tens, twos, worth = _scale(unit or kind.symbol, text, kind)
    value = float(f"{digits.replace('_', '')}e{int(exponent or 0) + tens}") * 2.0**twos * worth
    if not math.isfinite(value):
        raise ConfigError(_complaint(text, kind))
    return value


def show(value: float, dimension: str, digits: int | None = None, binary: bool = False) -> str:
    """`value` (SI) with the prefix that reads best.

    With `digits` it is rounded to that many significant ones; without, `parse` gives back exactly
    `value`. `binary` uses KiB, MiB, GiB.
    """
    kind = _kind(dimension)
    if not math.isfinite(value):
        raise ConfigError(f"{value} is not a finite {dimension}")
    if digits is not None and value:  # round first: 999.96 GB is 1 TB, not 1000 GB
        value = float(f"{value:.{digits - 1}e}")
    if binary:
        prefix, twos = _fitting(value, 2.0, {"": 0} | _BINARY)
        return f"{_shifted(value / 2.0**twos, 0, digits)} {prefix}{kind.symbol}"
    prefix, tens = _fitting(value, 10.0, _UP if kind.counts else _DOWN | _UP)
    return f"{_shifted(value, -tens, digits)} {prefix}{kind.symbol}"


def _kind(dimension: str) -> Dimension:
    if dimension not in DIMENSIONS:
        raise ConfigError(f"unknown dimension {dimension!r}{nearest(dimension, DIMENSIONS)}")
    return DIMENSIONS[dimension]


def _scale(unit: str, text: str, kind: Dimension) -> tuple[int, int, float]:
    """Power of ten, power of two and worth of a prefixed unit."""
    tens = _UP | _ALSO if kind.counts else _UP | _ALSO | _DOWN | _ALSO_DOWN
    for spelling, worth in kind.spellings.items():
        prefix = unit.removesuffix(spelling)
        if prefix == unit:
            continue
        if prefix in tens:
            return tens[prefix], 0, worth
        if prefix in _BINARY and kind.name in ("bytes", "bandwidth"):
            return 0, _BINARY[prefix], worth
    raise ConfigError(_complaint(text, kind))


def _complaint(text: str, kind: Dimension) -> str:
    hint = f'write e.g. "{kind.example}"'
    if kind.name in ("bytes", "bandwidth"):
        hint += " (B is a byte, b a bit, GB 10^9 bytes, GiB 2^30)"
    return f"{text!r} is not {kind.noun}: {hint}"


def _fitting(value: float, radix: float, prefixes: dict[str, int]) -> tuple[str, int]:
    """The largest prefix that leaves at least 1 before the point."""
    below = {prefix: power for prefix, power in prefixes.items() if abs(value) >= radix**power}
    best = max(below, key=below.__getitem__, default="") if value else ""
    return best, prefixes[best]


def _shifted(value: float, tens: int, digits: int | None) -> str:
    """The shortest decimal of `value`·10^tens, its digits moved and not recomputed."""
    if digits is None:
        mantissa, _, exponent = f"{value!r}".partition("e")
    else:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    figures = (whole + fraction).lstrip("0")
    point = len(whole) + int(exponent or 0) + tens - (len(whole + fraction) - len(figures))
    figures = figures.rstrip("0")
    if not figures:
        return "0"
    if not -5 < point < 18:
        return f"{sign}{figures[0]}.{figures[1:] or '0'}e{point - 1}"
    if point <= 0:
        return f"{sign}0.{'0' * -point}{figures}"
    whole = figures[:point].ljust(point, "0")
    return f"{sign}{whole}.{figures[point:]}".rstrip(".")
