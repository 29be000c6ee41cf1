"""Units as sources write them, turned into SI.

GB is 10⁹ bytes and GiB is 2³⁰; a source that writes one and means the other is put right by
declaring what it means.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzer.errors import ConfigError, nearest


class Unit(NamedTuple):
    """value_SI = value · times / over; or over / value where the figure is a time per token."""

    times: float
    over: float = 1.0
    inverse: bool = False

    def to_si(self, value: float) -> float:
        """The value in SI."""
        if self.inverse:
            return self.over / (value * self.times)
        return value * self.times / self.over


_TIME = {"s": Unit(1), "ms": Unit(1, 1e3), "us": Unit(1, 1e6), "ns": Unit(1, 1e9), "min": Unit(60)}
_BYTES = {
    "B": Unit(1),
    "kB": Unit(1e3),
    "MB": Unit(1e6),
    "GB": Unit(1e9),
    "TB": Unit(1e12),
    "KiB": Unit(2**10),
    "MiB": Unit(2**20),
    "GiB": Unit(2**30),
}
_TOKEN_RATE = {
    "tok/s": Unit(1),
    "s/tok": Unit(1, 1, inverse=True),
    "ms/tok": Unit(1, 1e3, inverse=True),
}

BY_SUFFIX: dict[str, dict[str, Unit]] = {
    "_tok_s": _TOKEN_RATE,
    "request_rate_s": {"req/s": Unit(1), "req/min": Unit(1, 60)},
    "_J_per_token": {"J/tok": Unit(1), "mJ/tok": Unit(1, 1e3)},
    "_Bps": {f"{name}/s": unit for name, unit in _BYTES.items()},
    "_B": _BYTES,
    "_s": _TIME,
    "_W": {"W": Unit(1), "kW": Unit(1e3), "mW": Unit(1, 1e3)},
    "_J": {"J": Unit(1), "kJ": Unit(1e3), "Wh": Unit(3600), "kWh": Unit(3.6e6)},
    "_fraction": {"1": Unit(1), "%": Unit(1, 100)},
    "_count": {"1": Unit(1)},
    "_Hz": {"Hz": Unit(1), "MHz": Unit(1e6), "GHz": Unit(1e9)},
    "_C": {"C": Unit(1)},
    "_FLOP": {"FLOP": Unit(1), "TFLOP": Unit(1e12)},
    "_FLOPps": {"FLOP/s": Unit(1), "TFLOP/s": Unit(1e12)},
}
"""Units by the end of the metric's name; the first end that fits counts."""


def unit_of(metric: str, unit: str, where: str) -> Unit:
    """The unit named `unit` for `metric`; raises ConfigError naming what is possible."""
    for suffix, units in BY_SUFFIX.items():
        if metric.endswith(suffix):
            if unit in units:
                return units[unit]
            problem = f"unit '{unit}' is not known for {metric}" if unit else "has no unit"
            raise ConfigError(f"{where}: {problem}; say one of {', '.join(units)}")
    raise ConfigError(
        f"{where}: '{metric}' carries no unit in its name{nearest(metric, BY_SUFFIX)}"
    )
