"""Durations as people write them: 90s, 10m, 1h, 1h30m, or bare seconds."""

from __future__ import annotations

import re

from analyzer.errors import ConfigError

_UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0}
_PARTS = re.compile(r"(?:\d+(?:\.\d+)?[hms])+")
_PART = re.compile(r"(\d+(?:\.\d+)?)([hms])")


def seconds(text: str) -> float:
    """The duration in seconds; a clear error where it is none or not above 0."""
    plain = text.strip().lower().replace(" ", "")
    if _PARTS.fullmatch(plain):
        found = sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(plain))
    else:
        found = _bare(plain, text)
    if not 0.0 < found < float("inf"):
        raise ConfigError(f"duration {text!r} must be above 0")
    return found


def _bare(plain: str, text: str) -> float:
    try:
        return float(plain)
    except ValueError:
        raise ConfigError(f"duration {text!r} is not like 90s, 10m, 1h or 1h30m") from None


def shown(duration_s: float) -> str:
    """The duration in words of the largest fitting unit: 45 s, 10 min, 1 h 30 min."""
    whole = round(duration_s)
    if whole < 100:
        return f"{whole} s"
    minutes = round(duration_s / 60)
    hours, rest = divmod(minutes, 60)
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {rest} min" if rest else f"{hours} h"
