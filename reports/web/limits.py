"""What one request may cost: seconds of work, and how many heavy ones run beside each other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from analyzer.errors import ConfigError

LONGEST_S = 20.0
"""Seconds after which a request's work is ended."""
AT_ONCE = 2
PATIENCE_S = 30.0
"""Seconds that a request waits for its turn."""

_turns = threading.BoundedSemaphore(AT_ONCE)


class Deadline:
    """Ends work that takes too long, at the next place where it asks."""

    def __init__(self, seconds: float = LONGEST_S, remedy: str = "ask for less") -> None:
        self._seconds, self._remedy = seconds, remedy
        self._end_s = time.monotonic() + seconds

    def check(self) -> None:
        """Raises ConfigError once the time is up."""
        if time.monotonic() > self._end_s:
            raise ConfigError(f"this was ended after {self._seconds:g} s; {self._remedy}")


@contextmanager
def turn(patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Wait for one of the few places for heavy work; ConfigError where none becomes free."""
    if not _turns.acquire(timeout=patience_s):
        raise ConfigError("the server is busy with other requests; ask again in a moment")
    try:
        yield
    finally:
        _turns.release()
