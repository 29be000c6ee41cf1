"""When to start counting and when to stop: warm-up until stable, then sampling until known.

The stopping rule is nvbench's: enough samples and enough measured time, and then either the noise
is small or the noise itself no longer changes. A cap on time ends what never settles. The test of
a finished warm-up follows pyperf: its first value is no outlier and its two halves agree.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Literal

import msgspec

from profilers.stats import mad, quantile

StopReason = Literal["noise", "stable_noise", "sample_cap", "time_cap"]


class Rules(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one measurement may cost and what it must reach."""

    min_samples: int = 10
    min_time_s: float = 0.5
    """Measured time below which no verdict is given."""
    max_noise: float = 0.005
    """Relative standard deviation that ends sampling."""
    stable_noise: float = 0.05
    """Relative spread of the last noise estimates at which noise counts as settled."""
    noise_window: int = 512
    noise_after: int = 64
    noise_check_every: int = 16
    max_samples: int = 20_000
    cap_s: float = 15.0
    """Wall time for the samples of one measurement, re-taken ones included."""
    claim: float = 0.02
    """Half-width of the median's 95 % interval above which a result is called noisy."""
    warmup_s: float = 3.0
    warmup_values: int = 300
    block_s: float = 0.1
    """Samples are taken in blocks of this length; the watch judges every block."""
    retake_s: float = 5.0
    """Wall time that may go into waiting for a disturbed machine to calm down."""


class StopRule:
    """Accepts samples until they suffice; `reason` says which clause ended it."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._mean = 0.0
        self._squares = 0.0
        self._noise: deque[float] = deque(maxlen=rules.noise_window)
        self._settled = False
        self.count = 0
        self.measured_s = 0.0

    def add(self, sample_s: float, calls: int = 1) -> None:
        """Take one sample, in seconds per call; it measured `calls` calls."""
        self.count += 1
        self.measured_s += sample_s * calls
        delta = sample_s - self._mean
        self._mean += delta / self.count
        self._squares += delta * (sample_s - self._mean)
        if self.count > 1 and self._mean > 0:
            self._noise.append(math.sqrt(self._squares / (self.count - 1)) / self._mean)
        if self.count % self._rules.noise_check_every == 0:
            self._settled = self._is_noise_settled()

    @property
    def noise(self) -> float:
        """Relative standard deviation so far; infinite before the second sample."""
        return self._noise[-1] if self._noise else math.inf

    def reason(self) -> StopReason | None:
        """Why sampling may end now, or None."""
        rules = self._rules
        if self.count < rules.min_samples:
            return None
        if self.measured_s >= rules.min_time_s:
            if self.noise < rules.max_noise:
                return "noise"
            if self._settled:
                return "stable_noise"
        return "sample_cap" if self.count >= rules.max_samples else None

    def _is_noise_settled(self) -> bool:
        rules = self._rules
        if len(self._noise) <= rules.noise_after:
            return False
        now = self._noise[-1]
        if now == 0:
            return True
        spread = math.sqrt(math.fsum((past - now) ** 2 for past in self._noise) / len(self._noise))
        return spread / now < rules.stable_noise


def is_warm(values: Sequence[float]) -> bool:
    """True where the values, in order of time, no longer drift (pyperf's criterion).

    The mean may still fall by 10 % or rise by half; quartiles must agree within 5 % and the
    spread within 10 %, or within 1 % of the value where the spread itself is negligible.
    """
    if len(values) < 4:
        return False
    half = len(values) // 2
    early, late = sorted(values[:half]), sorted(values[half:])
    rest = sorted(values[1:])
    first_quartile, third_quartile = quantile(rest, 0.25), quantile(rest, 0.75)
    if values[0] > third_quartile + 1.5 * (third_quartile - first_quartile) + 0.01 * rest[0]:
        return False
    late_mean = math.fsum(late) / len(late)
    drift = math.fsum(early) / len(early) / late_mean - 1
    if not -0.5 <= drift <= 0.10:
        return False
    for share in (0.25, 0.75):
        if abs(quantile(early, share) / quantile(late, share) - 1) > 0.05:
            return False
    spread_change = abs(mad(early) - mad(late))
    return spread_change <= max(0.10 * mad(late), 0.01 * late_mean)
