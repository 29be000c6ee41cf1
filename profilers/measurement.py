"""What a measurement amounts to: its samples, how they were taken, and what they are worth.

The verdict is the gravest of what is wrong: `throttled` (the device held itself back), `short` (too
few samples or too little measured time), `noisy` (others were on the machine, the median is not
known to the claimed precision, or times were still drifting); else `ok`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Literal

import msgspec

from profilers.stats import Summary, summarise
from profilers.stopping import Rules, StopReason, StopRule, is_warm
from profilers.telemetry import Reading, Span, Trouble, describe, spans

Quality = Literal["ok", "noisy", "throttled", "short"]
GRAVITY: tuple[Quality, ...] = ("throttled", "short", "noisy", "ok")


class Warmup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What was spent before the first sample that counts."""

    calls: int
    seconds: float
    first_call_s: float
    """The first call, with compilation, allocation and tuning in it."""
    stable: bool


class Measurement(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Samples in seconds per unit of work, in the order taken, and what they are worth."""

    samples_s: tuple[float, ...]
    summary: Summary
    inner: int
    """Calls that each sample averages over."""
    warmup: Warmup
    stopped_by: StopReason
    quality: Quality
    remarks: tuple[str, ...]
    """In words, why the quality is not `ok`."""
    retaken: int
    """Samples that were thrown away and taken again because the machine was disturbed."""
    tainted: int
    """Samples kept although the machine was disturbed, for want of better ones."""
    timer: str
    cold: bool
    cuda_graph: bool
    telemetry: dict[str, Span]
    details_s: dict[str, tuple[float, ...]] = {}
    """Parts of each sample, where the bench tells them."""


def conclude_samples(
    samples: Sequence[float],
    readings: Sequence[Reading],
    warmup: Warmup,
    rules: Rules,
    *,
    timer: str,
    stopped_by: StopReason | None = None,
    calls_per_sample: int = 1,
    tainted: int | None = None,
    retaken: int = 0,
) -> Measurement:
    """The measurement that samples (seconds per unit) amount to; `readings` are of kept blocks."""
    summary = summarise(samples)
    troubles = Counter(name for reading in readings for name in reading.troubles)
    reason = stopped_by or _reason(samples, rules)
    remarks = _remarks(summary, calls_per_sample, rules, reason, troubles)
    if not warmup.stable and not is_warm(samples):
        remarks["still drifting when the warm-up ended"] = "noisy"
    return Measurement(
        samples_s=tuple(samples),
        summary=summary,
        inner=calls_per_sample,
        warmup=warmup,
        stopped_by=reason,
        quality=next((grade for grade in GRAVITY if grade in remarks.values()), "ok"),
        remarks=tuple(remarks),
        retaken=retaken,
        tainted=(len(samples) if troubles else 0) if tainted is None else tainted,
        timer=timer,
        cold=False,
        cuda_graph=False,
        telemetry=spans(readings),
    )


def _reason(samples: Sequence[float], rules: Rules) -> StopReason:
    """Which clause of the rule these samples satisfy; the time cap where none."""
    rule = StopRule(rules)
    for sample in samples:
        rule.add(sample)
    return rule.reason() or "time_cap"


def _remarks(
    summary: Summary, calls: int, rules: Rules, reason: StopReason, troubles: Counter[Trouble]
) -> dict[str, Quality]:
    """In words, what is wrong with the samples, and how much each fault weighs."""
    remarks: dict[str, Quality] = {}
    if troubles:
        grade: Quality = "throttled" if troubles["throttled"] else "noisy"
        remarks[f"kept disturbed blocks: {describe(troubles)}"] = grade
    measured_s = summary.mean_s * summary.count * calls
    too_brief = reason == "time_cap" and measured_s < rules.min_time_s
    if summary.count < rules.min_samples or too_brief:
        remarks[f"{summary.count} samples over {measured_s:.3g} s"] = "short"
    if summary.half_width > rules.claim:
        remarks[f"median known to ±{100 * summary.half_width:.2g} %"] = "noisy"
    return remarks
