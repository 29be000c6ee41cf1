"""What is timed, and with which clock. A `Device` times calls; a `Clock` can be a fake.

`CpuDevice` needs no torch: whatever a callable does on this machine's cores is timed by the
monotonic clock. The CUDA device, which times by events, is in cuda.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

Call = Callable[[], object]

CACHE_FOLDER = Path("/sys/devices/system/cpu/cpu0/cache")
FALLBACK_CACHE_B = 64 * 1024**2


class Clock(Protocol):
    """Seconds that never run backwards."""

    def now(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The monotonic clock of this machine."""

    def now(self) -> float:
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class Device(Protocol):
    """Times calls. All figures are seconds."""

    name: str
    timer: str
    """How time is taken: `perf_counter` or `cuda_event`."""
    min_sample_s: float
    """A shorter sample is dominated by the timer; short calls are repeated to reach it."""

    def time_calls(self, run: Call, count: int, inner: int, before: Call | None) -> list[float]:
        """Seconds per call of `count` samples; each runs `inner` calls after one `before()`."""
        ...

    def flush(self) -> None:
        """Push everything out of the last-level cache."""
        ...

    def synchronize(self) -> None:
        """Wait until all that was started has ended."""
        ...


def last_level_cache_B(folder: Path = CACHE_FOLDER) -> int:
    """Size of the largest cache of core 0; 64 MiB where the kernel does not tell."""
    sizes = []
    for entry in sorted(folder.glob("index*/size")):
        text = entry.read_text().strip()
        unit = {"K": 1024, "M": 1024**2, "G": 1024**3}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KMG")) * unit)
    return max(sizes, default=FALLBACK_CACHE_B)


class CpuDevice:
    """This machine's cores, timed by the monotonic clock."""

    name = "cpu"
    timer = "perf_counter"
    min_sample_s = 50e-6

    def __init__(self, clock: Clock | None = None, cache_B: int | None = None) -> None:
        self._clock = clock or SystemClock()
        self._cache_B = cache_B or last_level_cache_B()
        self._ballast: np.ndarray[Any, np.dtype[np.float32]] | None = None

    def time_calls(self, run: Call, count: int, inner: int, before: Call | None) -> list[float]:
        now = self._clock.now
        samples = []
        for _ in range(count):
            if before is not None:
                before()
            start = now()
            for _ in range(inner):
                run()
            samples.append((now() - start) / inner)
        return samples

    def flush(self) -> None:
        """Write twice the last-level cache."""
        if self._ballast is None:
            self._ballast = np.ones(2 * self._cache_B // 4, dtype=np.float32)
        np.add(self._ballast, 1.0, out=self._ballast)

    def synchronize(self) -> None:
        """Nothing runs on its own here."""
