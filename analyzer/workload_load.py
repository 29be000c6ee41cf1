"""A load as data: how requests arrive, how long they are, what they share."""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from analyzer.errors import ConfigError


class Poisson(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="poisson"):
    """Open loop, independent arrivals at `rate_per_s`."""

    rate_per_s: float


class Gamma(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="gamma"):
    """Open loop with gamma gaps: burstiness 1 is Poisson, below 1 burstier, above 1 steadier."""

    rate_per_s: float
    burstiness: float = 1.0


class Constant(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="constant"
):
    """Open loop, equal gaps."""

    rate_per_s: float


class Ramp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ramp"):
    """Open loop, Poisson with a rate that moves linearly, then stays at `end_rate_per_s`."""

    start_rate_per_s: float
    end_rate_per_s: float
    duration_s: float


class AllAtOnce(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="offline"
):
    """Every request at time zero (offline throughput)."""


class ClosedLoop(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="closed"
):
    """`concurrency` users; each sends its next request `think_s` after its last answer ended."""

    concurrency: int
    think_s: float = 0.0


class FromTrace(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trace"):
    """The trace's own times, made `speed` times as fast."""

    speed: float = 1.0


Arrivals = Poisson | Gamma | Constant | Ramp | AllAtOnce | ClosedLoop | FromTrace


class Fixed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="constant"):
    """Always `tokens`."""

    tokens: int


class Uniform(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="uniform"):
    """Whole numbers from `low` to `high`, both included."""

    low: int
    high: int


class LogNormal(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="lognormal"
):
    """exp of a normal with the given median and sigma, drawn again while outside low..high."""

    median: float
    sigma: float
    low: int = 1
    high: int = 1_000_000


class TraceLength(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="trace"
):
    """The length that the trace records for the request."""


Length = Fixed | Uniform | LogNormal | TraceLength


class SharedPrefix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each prompt begins with one of `groups` prefixes of `tokens`, chosen evenly at random.

    The prefix comes on top of the drawn prompt length.
    """

    tokens: int
    groups: int = 1


class Turns(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Conversations of `count` turns; each prompt repeats all that was said before it."""

    count: int
    think_s: float = 0.0


class Load(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides which requests come and when. Lengths in tokens, times in s."""

    arrivals: Arrivals
    input_tokens: Length = Fixed(tokens=1024)
    output_tokens: Length = Fixed(tokens=128)
    requests: int | None = None
    """Requests in all, turns counted; None: as many as the trace has."""
    shared_prefix: SharedPrefix | None = None
    turns: Turns | None = None
    trace: str | None = None
    """Path of a CSV or JSON-lines trace; see analyzer.workload_traces."""
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)


def _check(load: Load) -> None:
    for name, value in _positive_numbers(load):
        if not (math.isfinite(value) and value > 0):
            raise ConfigError(f"{name} must be above 0, not {value!r}")
    for field in ("input_tokens", "output_tokens"):
        _check_length(field, getattr(load, field))
    uses_trace = [
        field
        for field in ("arrivals", "input_tokens", "output_tokens")
        if isinstance(getattr(load, field), FromTrace | TraceLength)
    ]
    if uses_trace and load.trace is None:
        raise ConfigError(f"{', '.join(uses_trace)} want a trace; give its path in 'trace'")
    if load.trace is not None and load.turns is not None:
        raise ConfigError("a trace holds its own prompts; leave out 'turns'")
    if load.requests is None and load.trace is None:
        raise ConfigError("say how many requests; only a trace has an end of its own")


def _positive_numbers(load: Load) -> Iterator[tuple[str, float]]:
    for name in (
        "rate_per_s",
        "burstiness",
        "start_rate_per_s",
        "end_rate_per_s",
        "duration_s",
        "concurrency",
        "speed",
    ):
        if hasattr(load.arrivals, name):
            yield f"arrivals.{name}", getattr(load.arrivals, name)
    if load.requests is not None:
        yield "requests", load.requests
    if load.shared_prefix is not None:
        yield "shared_prefix.tokens", load.shared_prefix.tokens
        yield "shared_prefix.groups", load.shared_prefix.groups
    if load.turns is not None:
        yield "turns.count", load.turns.count


def _check_length(field: str, how: Length) -> None:
    low, high = _range(how)
    if low < 1:
        raise ConfigError(f"{field} must be at least 1 token, not {low}")
    if high < low:
        raise ConfigError(f"{field}: high {high} is below low {low}")
    if isinstance(how, LogNormal) and not (how.median > 0 and how.sigma >= 0):
        raise ConfigError(f"{field}: a log-normal needs median > 0 and sigma >= 0")


def _range(how: Length) -> tuple[int, int]:
    if isinstance(how, Fixed):
        return how.tokens, how.tokens
    if isinstance(how, TraceLength):
        return 1, 1
    return how.low, how.high
