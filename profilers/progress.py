"""How far a campaign has come, and how long it will still take."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from typing import Literal

import msgspec

from profilers.device import Clock

Event = Literal["plan", "start", "done", "failed", "retry", "end"]


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """Where a campaign stands; given to the reporter at every event."""

    event: Event
    done: int
    total: int
    failed: int
    current: str
    note: str
    elapsed_s: float
    eta_s: float


Reporter = Callable[[Progress], None]


class Tally:
    """Counts answers and learns from what was spent how good the estimates are."""

    def __init__(self, clock: Clock, reporter: Reporter, budget_s: float | None) -> None:
        self._clock = clock
        self._reporter = reporter
        self._budget_s = budget_s
        self._began = clock.now()
        self._spent_s = self._expected_s = self._left_s = 0.0
        self.total = self.measured = self.failed = 0
        self.quality: Counter[str] = Counter()

    def plan(self, total: int, estimate_s: float, note: str) -> None:
        """So many cases lie ahead."""
        self.total, self._left_s = total, estimate_s
        self.report("plan", "", note)

    @property
    def elapsed_s(self) -> float:
        """Wall time of the campaign so far."""
        return self._clock.now() - self._began

    @property
    def answered(self) -> int:
        return self.measured + self.failed

    @property
    def _pace(self) -> float:
        """Real seconds per estimated second; 1 until something was measured."""
        return self._spent_s / self._expected_s if self._expected_s else 1.0

    def fits(self, estimate_s: float) -> bool:
        """True where the budget still holds that much work."""
        return estimate_s * self._pace <= self.left_s

    @property
    def left_s(self) -> float:
        """What remains of the budget, negative when it is overdrawn; infinite without one."""
        return math.inf if self._budget_s is None else self._budget_s - self.elapsed_s

    def spent(self, estimate_s: float, actual_s: float) -> None:
        """Work of that estimate took that long."""
        self._expected_s += estimate_s
        self._spent_s += actual_s
        self._left_s = max(0.0, self._left_s - estimate_s)

    def count(self, quality: str) -> None:
        """One case was measured."""
        self.measured += 1
        self.quality[quality] += 1

    def report(self, event: Event, current: str, note: str = "") -> None:
        """Tell the reporter where the campaign stands."""
        self._reporter(
            Progress(
                event=event,
                done=self.answered,
                total=self.total,
                failed=self.failed,
                current=current,
                note=note,
                elapsed_s=self.elapsed_s,
                eta_s=self._left_s * self._pace,
            )
        )
