"""Which rows a fit may use, and why the others stay out.

Nothing is dropped: every record comes back either as used or as excluded with its reason, and the
two add up to what went in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import msgspec

from analyzer.records import Kind, Record, flagged
from analyzer.records_arrival import FIXED_BATCHES, ArrivalKind
from calibration.corpus.flags import make_flag


class Need(msgspec.Struct, frozen=True, kw_only=True):
    """What a use of the corpus asks of a row."""

    metric: str
    kinds: tuple[Kind, ...] = ("e2e", "serving")
    fields: tuple[str, ...] = ("hardware", "model", "engine")
    """Scenario fields that must be stated."""
    arrivals: frozenset[str] = FIXED_BATCHES
    counted_devices: bool = True
    """The parallelism must be stated: tp, or the workers of both pools."""
    speculative: bool = False
    """True: rows with speculative decoding are welcome."""


class Excluded(msgspec.Struct, frozen=True, kw_only=True):
    """A row that stays out, and why."""

    record: Record
    code: str
    reason: str


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """What may be used and what may not; together all that was asked about."""

    used: tuple[Record, ...]
    excluded: tuple[Excluded, ...]


SERVED: frozenset[ArrivalKind] = frozenset({"closed_loop", "poisson", "burst", "trace"})
OFFLINE: frozenset[ArrivalKind] = frozenset({"offline"})
_WHO = ("hardware", "model", "engine")
_LENGTHS = ("concurrency", "input_tokens", "output_tokens")

BESIDE_THE_POINT = frozenset({"other_kind", "not_measured", "other_load"})
"""Reasons that say nothing against a row: it is about something else."""

NEEDS: dict[str, Need] = {
    "ttft": Need(metric="ttft_s", fields=(*_WHO, "concurrency", "input_tokens")),
    "tpot": Need(metric="tpot_s", fields=(*_WHO, *_LENGTHS)),
    "e2e": Need(metric="e2e_s", fields=(*_WHO, *_LENGTHS)),
    "served ttft": Need(metric="ttft_s", fields=(*_WHO, *_LENGTHS), arrivals=SERVED),
    "served tpot": Need(metric="tpot_s", fields=(*_WHO, "concurrency"), arrivals=SERVED),
    "offline tok/s": Need(
        metric="output_tok_s", fields=(*_WHO, "input_tokens", "output_tokens"), arrivals=OFFLINE
    ),
    "offload tok/s": Need(
        metric="output_tok_s", kinds=("offload",), fields=_WHO, counted_devices=False
    ),
    "offload prefill": Need(
        metric="prefill_tok_s", kinds=("offload",), fields=_WHO, counted_devices=False
    ),
    "offload decode": Need(
        metric="decode_tok_s", kinds=("offload",), fields=_WHO, counted_devices=False
    ),
    "peak memory": Need(metric="peak_mem_B", kinds=("memory",)),
    "weights": Need(metric="weights_B", kinds=("memory",)),
}
"""What the fits and the reports ask for, by name."""


def usable(records: Iterable[Record], need: Need) -> Split:
    """Split records into those that meet the need and those that do not, with the reason."""
    used: list[Record] = []
    excluded: list[Excluded] = []
    for record in records:
        reason = reason_against(record, need)
        if reason is None:
            used.append(record)
        else:
            excluded.append(Excluded(record=record, code=reason[0], reason=reason[1]))
    return Split(used=tuple(used), excluded=tuple(excluded))


def reason_against(record: Record, need: Need) -> tuple[str, str] | None:
    """Code and words of the first reason not to use a record; None where there is none."""
    if record.kind not in need.kinds:
        return "other_kind", f"a measurement of kind {record.kind}"
    if need.metric not in record.metrics:
        return "not_measured", f"the row gives no {need.metric}"
    scenario = record.scenario
    arrival = scenario.arrival
    if arrival is not None and arrival.kind not in need.arrivals:
        return "other_load", f"measured under {arrival.kind.replace('_', ' ')} arrivals"
    for flag in record.flags:
        if flag.severity != "note" and flag.concerns(need.metric):
            return flag.code, flag.reason
    for field in need.fields:
        if getattr(scenario, field) in (None, ""):
            return "not_stated", f"the source does not state {field}"
    if need.counted_devices and not _devices_counted(record):
        return "not_stated", "the source does not state how many devices worked together"
    if scenario.speculative and not need.speculative:
        return "speculative", f"tokens were drafted ({scenario.speculative})"
    return None


def _devices_counted(record: Record) -> bool:
    scenario = record.scenario
    if scenario.prefill_pool is None and scenario.decode_pool is None:
        return scenario.tp is not None
    pools = (scenario.prefill_pool, scenario.decode_pool)
    return all(pool is not None and pool.workers is not None for pool in pools)


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the physics gate."""

    records: tuple[Record, ...]
    checked: int
    unchecked: int
    """Records of which no bound is known (a model or a system that is not in the catalog)."""
    impossible: int


Bounds = Callable[[Record], Mapping[str, float] | None]
"""Least possible value of a time, or greatest of a rate, by metric; None: not known."""


def physics_gate(records: Iterable[Record], bounds: Bounds, tolerance: float = 0.0) -> Gate:
    """Flag as impossible what beats the hardware's peaks by more than the fraction `tolerance`."""
    passed: list[Record] = []
    unchecked = impossible = 0
    for record in records:
        known = bounds(record)
        if known is None:
            unchecked += 1
            passed.append(record)
            continue
        judged = _judged(record, known, tolerance)
        impossible += judged is not record
        passed.append(judged)
    return Gate(
        records=tuple(passed),
        checked=len(passed) - unchecked,
        unchecked=unchecked,
        impossible=impossible,
    )


def _judged(record: Record, bounds: Mapping[str, float], tolerance: float) -> Record:
    for metric, bound in bounds.items():
        value = record.metrics.get(metric)
        if value is None:
            continue
        is_rate = metric.endswith(("_tok_s", "request_rate_s", "_Bps"))
        beats = value > bound * (1 + tolerance) if is_rate else value < bound / (1 + tolerance)
        if beats:
            limit = "greatest" if is_rate else "least"
            detail = f"{metric} {value:.4g} where {bound:.4g} is the {limit} possible"
            record = flagged(record, make_flag("beats_hardware", detail, (metric,)))
    return record
