"""What can be asked of a machine, and what can come back: the messages of a campaign.

A `Case` is one measurement to take; its id is the hash of what it asks, so a campaign knows from
its records alone what is done. A worker process answers each case with an `Outcome` or a `Failure`.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from analyzer.records import Flag, Kind, Scalar, Scenario
from analyzer.records_codec import case_id
from profilers.environment import Environment
from profilers.measurement import Measurement
from profilers.stopping import Rules

FailureCode = Literal["oom", "crash", "timeout", "unsupported", "error"]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of everything that crosses the pipe between campaign and worker."""


class Case(Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One thing to measure."""

    profile: str
    kind: Kind
    scenario: Scenario
    case: dict[str, Scalar] = {}

    @property
    def id(self) -> str:
        """Hash of what is asked; the profile that asks does not matter."""
        return case_id(self.kind, self.scenario, self.case)

    @property
    def title(self) -> str:
        """A few words for a progress line."""
        what = [str(self.case.get("op", self.kind)), self.scenario.model]
        shown = {key: value for key, value in self.case.items() if key not in {"op", "config"}}
        sizes = [f"{key}={value}" for key, value in shown.items()]
        lengths = {"b": self.scenario.concurrency, "in": self.scenario.input_tokens}
        sizes += [f"{key}={value:g}" for key, value in lengths.items() if value is not None]
        return " ".join(word for word in [*what, *sizes] if word)


class Planned(Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A case with what it is expected to cost."""

    case: Case
    estimate_s: float
    priority: int = 1
    """0 before 1 before 2: what a small budget keeps."""
    batch: str = ""
    """Cases of one batch share a worker and are interleaved."""
    memory_B: float = 0.0


class Machine(Message, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a plan needs to know of the machine, measured roughly in a second or two."""

    device: str
    """`cpu` or `cuda:0`."""
    name: str
    devices: int
    memory_B: float
    cache_B: float
    threads: int
    formats: tuple[str, ...]
    """Number formats in which a matrix product ran here."""
    flops: dict[str, float]
    """Rough FLOP/s by format."""
    bandwidth_Bps: float
    launch_s: float
    """Rough time of the smallest call."""


class Ask(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="ask"):
    """Measure these cases."""

    cases: tuple[Case, ...]
    rules: Rules
    seed: int = 0


class Describe(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="describe"):
    """Say what machine this is."""


class Described(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="described"):
    """Answer to Describe."""

    machine: Machine
    environment: Environment


class Outcome(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="outcome"):
    """A case that was measured."""

    case: str
    metrics: dict[str, float]
    samples: dict[str, tuple[float, ...]] = {}
    spread: dict[str, dict[str, float]] = {}
    flags: tuple[Flag, ...] = ()
    notes: dict[str, Scalar] = {}
    """How it was measured; joins the record's environment."""
    derived: tuple[str, ...] = ()


class Failure(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="failure"):
    """A case that could not be measured."""

    case: str
    code: FailureCode
    reason: str


class Done(Message, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="done"):
    """All cases of an Ask were answered."""


Request = Ask | Describe
Reply = Described | Outcome | Failure | Done


def outcome(
    case: Case,
    measured: Measurement,
    metric: str = "latency_s",
    more: dict[str, float] | None = None,
    notes: dict[str, Scalar] | None = None,
) -> Outcome:
    """The outcome of a case that was timed by the measuring kernel; `more` are derived metrics."""
    return Outcome(
        case=case.id,
        metrics={metric: measured.summary.median_s, **(more or {})},
        samples={metric: tuple(rounded(value) for value in measured.samples_s)},
        spread={metric: spread_of(measured)},
        flags=quality_flags(measured),
        notes={**measurement_notes(measured), **(notes or {})},
        derived=tuple(more or ()),
    )


def rounded(seconds: float) -> float:
    """Six significant digits: finer than any timer here."""
    return float(f"{seconds:.6g}")


def spread_of(measured: Measurement) -> dict[str, float]:
    """Spread by statistic, in seconds."""
    summary = measured.summary
    return {
        "mean": summary.mean_s,
        "sd": summary.stdev_s,
        "mad": summary.mad_s,
        "p10": summary.p10_s,
        "p90": summary.p90_s,
        "min": summary.min_s,
        "max": summary.max_s,
        "ci_low": summary.ci_low_s,
        "ci_high": summary.ci_high_s,
    }


def quality_flags(measured: Measurement) -> tuple[Flag, ...]:
    """One doubt where the verdict is not `ok`, with the reasons in words."""
    if measured.quality == "ok":
        return ()
    return (Flag(code=measured.quality, reason="; ".join(measured.remarks)),)


def measurement_notes(measured: Measurement) -> dict[str, Scalar]:
    """How the samples were taken, one plain value each."""
    notes: dict[str, Scalar] = {
        "quality": measured.quality,
        "stopped_by": measured.stopped_by,
        "samples": measured.summary.count,
        "calls_per_sample": measured.inner,
        "retaken_samples": measured.retaken,
        "tainted_samples": measured.tainted,
        "outliers_mild": measured.summary.outliers_mild,
        "outliers_severe": measured.summary.outliers_severe,
        "warmup_calls": measured.warmup.calls,
        "warmup_s": rounded(measured.warmup.seconds),
        "first_call_s": rounded(measured.warmup.first_call_s),
        "warmup_stable": measured.warmup.stable,
        "timer": measured.timer,
        "cache": "cold" if measured.cold else "hot",
        "cuda_graph": measured.cuda_graph,
    }
    for name, span in measured.telemetry.items():
        notes[f"{name}_mean"] = rounded(span.mean)
        notes[f"{name}_max"] = rounded(span.high)
    return notes
