"""The doubts that the corpus knows, each with the words that explain it.

A `note` leaves a figure usable. A `suspect` figure and an `impossible` one stay out of every fit;
they differ in what is said about them: the first may be right, the second cannot be.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzer.errors import DataError, nearest
from analyzer.records import Flag, Severity


class _Spec(NamedTuple):
    severity: Severity
    reason: str
    metrics: tuple[str, ...] = ()
    gist: str = ""
    """The reason without the row's own numbers, for counting."""


_SPECS: dict[str, _Spec] = {
    "beats_hardware": _Spec(
        "impossible",
        "faster than the hardware's peaks allow ({detail})",
        gist="faster than the hardware's peaks allow",
    ),
    "kv_oversubscribed": _Spec(
        "suspect",
        "weights and cache of the whole batch need {detail} the device memory, so that the "
        "engine queued, preempted or offloaded: not one resident batch",
        gist="weights and cache of the batch exceed the device memory: no resident batch",
    ),
    "non_monotone": _Spec(
        "suspect",
        "falls where more work must take longer ({detail})",
        gist="falls where more work must take longer",
    ),
    "start_up": _Spec(
        "suspect",
        "took {detail} on the line between shorter and longer runs of its kind: it holds a start",
        gist="holds a start: above the line between shorter and longer runs of its kind",
    ),
    "explained_order": _Spec("note", "{detail}"),
    "warm_up": _Spec(
        "suspect",
        "first case of its sweep: the prefill contains the warm-up",
        ("ttft_s", "prefill_tok_s"),
    ),
    "digitised": _Spec("note", "read off a plot, to about 1 %"),
    "projected": _Spec(
        "suspect",
        "projected by the source's own tool from a few timed steps",
        ("decode_tok_s", "prefill_tok_s", "tpot_s", "ttft_s"),
    ),
    "anomaly": _Spec("suspect", "{detail}"),
    "duplicate": _Spec(
        "suspect",
        "repeats {detail} cell by cell, so it is counted once",
        gist="repeats another row",
    ),
    "late_stamp": _Spec(
        "note",
        "TTFT was stamped {detail} tokens late (E2E − TTFT ≠ (n − 1) · TPOT); "
        "replaced by E2E − (n − 1) · TPOT",
    ),
    "early_stop": _Spec(
        "suspect", "E2E has room for {detail} of the output tokens: generation stopped early"
    ),
    "timing_mismatch": _Spec(
        "suspect", "E2E exceeds TTFT + (n − 1) · TPOT by {detail} tokens' time"
    ),
    "batch_is_no_batch": _Spec(
        "impossible",
        "throughput × latency accounts for {detail}: the batch column counts something else "
        "(llama-bench -b is the size of a prompt chunk)",
    ),
    "definition_mismatch": _Spec(
        "impossible", "throughput and latency disagree under the declared definition ({detail})"
    ),
    "drafted": _Spec(
        "suspect",
        "the same loop was measured slower beside it, and the source ran this engine with and "
        "without drafted tokens under one description: here they were drafted",
    ),
    "drafted_or_not": _Spec(
        "suspect",
        "loops of this layout ran with and without drafted tokens under one description; which of "
        "the two this one is cannot be told",
    ),
    "start_in_loop": _Spec(
        "suspect",
        "of this release some first tokens took three times as long as with more requests in "
        "flight: its loops hold a start (compiling, tuning) that their first requests waited for",
        ("ttft_s",),
    ),
    "stalled": _Spec(
        "suspect",
        "the slowest of a hundred requests waited {detail} times as long as half of them did: the "
        "mean holds a start or a stall",
        ("ttft_s",),
        gist="the mean holds a start or a stall that few requests waited for",
    ),
    "prefix_reuse": _Spec("suspect", "TTFT is too short for its prompt: {detail}"),
}


def make_flag(code: str, detail: str = "", metrics: tuple[str, ...] = ()) -> Flag:
    """A flag of the registry; raises DataError for a code that is not in it."""
    spec = _SPECS.get(code)
    if spec is None:
        raise DataError(f"unknown flag '{code}'{nearest(code, _SPECS)}")
    reason = spec.reason.format(detail=detail)
    return Flag(code=code, reason=reason, severity=spec.severity, metrics=metrics or spec.metrics)


def parse_flags(text: str) -> tuple[Flag, ...]:
    """Flags as tables write them: 'code', 'code=detail', several separated by ';'."""
    parts = [part.strip() for part in text.split(";") if part.strip()]
    split = [part.partition("=") for part in parts]
    return tuple(make_flag(code.strip(), detail.strip()) for code, _, detail in split)


def gist_of(code: str) -> str:
    """What a flag of the registry says of any row; '' for a code that is a source's own."""
    spec = _SPECS.get(code)
    return spec.gist if spec else ""
