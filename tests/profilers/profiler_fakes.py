"""A clock, a device and a watch that do exactly what a test tells them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from profilers.measure import Kit
from profilers.telemetry import Reading


class FakeClock:
    def __init__(self) -> None:
        self.time_s = 100.0
        self.sleeps: list[float] = []

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time_s += seconds


class FakeDevice:
    """Runs nothing: asks the callable for its duration, and lets the clock run on by it."""

    name = "fake"
    timer = "fake_event"

    def __init__(self, clock: FakeClock, min_sample_s: float = 0.0) -> None:
        self.clock = clock
        self.min_sample_s = min_sample_s
        self.flushes = 0
        self.log: list[str] = []

    def time_calls(
        self, run: Callable[[], object], count: int, inner: int, before: Callable[[], object] | None
    ) -> list[float]:
        samples = []
        for _ in range(count):
            if before is not None:
                before()
            total = 0.0
            for _ in range(inner):
                duration = run()
                assert isinstance(duration, float)
                total += duration
            self.clock.time_s += total
            samples.append(total / inner)
        return samples

    def flush(self) -> None:
        self.flushes += 1

    def synchronize(self) -> None:
        pass


class ScriptedWatch:
    """Gives the readings of a script, then quiet ones for ever."""

    def __init__(self, readings: Iterable[Reading] = (), then: Reading | None = None) -> None:
        self._script: Iterator[Reading] = iter(readings)
        self._then = then or Reading(figures={"others_cores": 0.0})
        self.stops = 0

    def start(self) -> None:
        pass

    def stop(self) -> Reading:
        self.stops += 1
        return next(self._script, self._then)


def kit(watch: ScriptedWatch | None = None, min_sample_s: float = 0.0) -> Kit:
    clock = FakeClock()
    return Kit(device=FakeDevice(clock, min_sample_s), clock=clock, watch=watch or ScriptedWatch())


def constant(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def script(durations: Iterable[float], then: float) -> Callable[[], float]:
    """A callable that lasts as scripted, then `then` for ever."""
    remaining = iter(durations)
    return lambda: next(remaining, then)
