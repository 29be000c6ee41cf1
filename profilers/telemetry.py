"""Was the machine itself while we measured? A `Watch` judges every block of samples.

A watch is started before a block and stopped after it; what it reports as trouble makes the kernel
take that block again. `CpuWatch` reads /proc: what other processes used, and how long our own
threads waited for a core. `NvmlWatch` (nvml.py) reads clocks, limits, temperature, power and
foreign processes of a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from profilers.device import Clock

Trouble = Literal["contended", "throttled", "shared_gpu"]


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a watch saw over one block. Figures carry their unit in the name."""

    troubles: tuple[Trouble, ...] = ()
    figures: dict[str, float] = {}


class Watch(Protocol):
    """Looks at the machine around every block of samples."""

    def start(self) -> None: ...

    def stop(self) -> Reading: ...


class NoWatch:
    """Sees nothing; for tests and for devices that cannot be watched."""

    def start(self) -> None: ...

    def stop(self) -> Reading:
        return Reading()


class ProcSource(Protocol):
    """The three counters of the operating system that `CpuWatch` compares."""

    def machine_busy_s(self) -> float:
        """Core-seconds that all processes, kernel and hypervisor have used."""
        ...

    def own_busy_s(self) -> float:
        """Core-seconds that this process and its ended children have used."""
        ...

    def own_waiting_s(self) -> float:
        """Seconds that this process's threads were runnable but had no core."""
        ...


class ProcFiles:
    """Reads /proc of a Linux machine."""

    def __init__(self, root: Path = Path("/proc")) -> None:
        self._root = root
        self._tick_s = 1.0 / os.sysconf("SC_CLK_TCK")

    def machine_busy_s(self) -> float:
        fields = (self._root / "stat").read_text().split("\n", 1)[0].split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = (int(x) for x in fields[:8])
        return (user + nice + system + irq + softirq + steal) * self._tick_s

    def own_busy_s(self) -> float:
        spent = os.times()
        return spent.user + spent.system + spent.children_user + spent.children_system

    def own_waiting_s(self) -> float:
        total = 0
        for thread in (self._root / "self" / "task").iterdir():
            try:
                total += int((thread / "schedstat").read_text().split()[1])
            except (OSError, IndexError):  # the thread ended meanwhile, or no such accounting
                continue
        return total * 1e-9


class CpuWatch:
    """Calls a block contended when others used the cores or our threads queued for one.

    `max_waiting`: share of the block that one of our `threads` may queue; their times are summed.
    """

    def __init__(
        self,
        clock: Clock,
        source: ProcSource | None = None,
        max_others: float = 0.15,
        max_waiting: float = 0.02,
        threads: int = 1,
    ) -> None:
        self._clock = clock
        self._source = source or ProcFiles()
        self._max_others = max_others
        self._max_waiting = max_waiting * threads
        self._at = (0.0, 0.0, 0.0, 0.0)

    def _look(self) -> tuple[float, float, float, float]:
        source = self._source
        return (
            self._clock.now(),
            source.machine_busy_s(),
            source.own_busy_s(),
            source.own_waiting_s(),
        )

    def start(self) -> None:
        self._at = self._look()

    def stop(self) -> Reading:
        wall, busy, own, waiting = (
            now - then for now, then in zip(self._look(), self._at, strict=True)
        )
        if wall <= 0:
            return Reading()
        # The kernel accounts in ticks of 10 ms: a share is only known to within two of them.
        blur = 0.02 / wall
        others = max(0.0, busy - own) / wall
        queued = max(0.0, waiting) / wall
        contended = others > self._max_others + blur or queued > self._max_waiting
        return Reading(
            troubles=("contended",) if contended else (),
            figures={"others_cores": others, "own_queueing_share": queued},
        )


class WatchAll:
    """Several watches as one; a block is troubled when any of them says so."""

    def __init__(self, watches: Iterable[Watch]) -> None:
        self._watches = tuple(watches)

    def start(self) -> None:
        for watch in self._watches:
            watch.start()

    def stop(self) -> Reading:
        readings = [watch.stop() for watch in self._watches]
        figures: dict[str, float] = {}
        for reading in readings:
            figures.update(reading.figures)
        troubles = sorted({trouble for reading in readings for trouble in reading.troubles})
        return Reading(troubles=tuple(troubles), figures=figures)


class Span(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lowest, mean and highest value of one figure over the blocks that were kept."""

    low: float
    mean: float
    high: float


def spans(readings: Iterable[Reading]) -> dict[str, Span]:
    """Each figure over many readings."""
    columns: dict[str, list[float]] = {}
    for reading in readings:
        for name, value in reading.figures.items():
            columns.setdefault(name, []).append(value)
    return {name: _span(values) for name, values in sorted(columns.items())}


def _span(values: list[float]) -> Span:
    return Span(low=min(values), mean=sum(values) / len(values), high=max(values))


def describe(troubles: Mapping[Trouble, int]) -> str:
    """'contended 3×, throttled 1×' for counts of troubled blocks."""
    return ", ".join(f"{name} {count}×" for name, count in sorted(troubles.items()))
