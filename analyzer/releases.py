"""Releases from which on an engine does by itself what it had to be told before.

A stated release decides, else the date of the measurement, else the newest is meant.
"""

from __future__ import annotations

import re

import msgspec


class Since(msgspec.Struct, frozen=True):
    """The first release with a habit, and the first month (YYYY-MM) of measurements with it."""

    release: tuple[int, ...]
    month: str


ASYNCHRONOUS: dict[str, Since] = {"vllm-v1": Since((0, 14), "2026-01")}
"""By engine class: the next step is planned while the device runs this one."""


def asynchronous(engine: str, version: str = "", date: str = "") -> bool:
    """Whether the host's work on a step is hidden behind the device's on the one before.

    A bare year is taken for its end; a version that is no number is none.
    """
    since = ASYNCHRONOUS.get(engine)
    if since is None:
        return False
    numbers = re.match(r"v?(\d+)\.(\d+)", version.strip())
    if numbers:
        return (int(numbers[1]), int(numbers[2])) >= since.release
    month = f"{date}-12" if len(date) == 4 else date
    return not month or month >= since.month
