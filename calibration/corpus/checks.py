"""What is checked of every row and every table, and what is repaired.

A check never drops anything: it flags the record, with the reason, or repairs one figure and says
so. The identity E2E = TTFT + (n − 1) · TPOT holds for one sequence at a time and for figures of the
same runs: not for a batch whose prompts are prefilled in turn, nor for medians taken one by one.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from pathlib import Path

import msgspec

from analyzer.errors import DataError
from analyzer.records import Flag, Record, flagged
from calibration.corpus.flags import make_flag
from calibration.corpus.growth import flag_starts
from calibration.corpus.loops import check_loops

_LATE = 0.5
"""Tokens' time by which a TTFT may be late before it is called so."""
_EARLY = 0.9
"""Share of the output tokens that E2E must have room for."""
_MANY = 10.0
"""Tokens that no late stamp can account for."""
_STALLED = 10.0
"""Times the median that a 99th percentile may be before the mean says nothing of most requests."""
_REUSED = 0.8
"""A TTFT below this share of those of two shorter prompts cannot have computed its prompt."""
_ORDER = 1.05


def check_row(record: Record, *, same_runs: bool = True) -> Record:
    """The record, with a late TTFT repaired and contradictions flagged.

    `same_runs` is False where TTFT, TPOT and E2E are not of the same runs; then only a generation
    that stopped early can be told.
    """
    cached = record.case.get("cached_tokens")
    if isinstance(cached, (int, float)) and cached > 0:
        detail = f"{cached:g} of its tokens were cached"
        record = flagged(record, make_flag("prefix_reuse", detail, ("ttft_s",)))
    record = _with_stall_flagged(record)
    outputs = record.scenario.output_tokens
    if outputs is None or outputs < 2 or not _is_timed_in_full(record):
        return record
    late = _tokens_late(record, outputs)
    if late > (1 - _EARLY) * outputs:
        detail = f"{max(0.0, outputs - late):.4g} of {outputs:g}"
        doubted = ("e2e_s",) if late > _MANY else ("ttft_s", "e2e_s")
        return flagged(record, make_flag("early_stop", detail, doubted))
    if same_runs and late > _LATE:
        return _with_ttft_repaired(record, outputs, late)
    if same_runs and late < -max(_LATE, 0.02 * outputs):
        return flagged(record, make_flag("timing_mismatch", f"{-late:.3g}", ("e2e_s",)))
    return record


def _with_stall_flagged(record: Record) -> Record:
    """Of requests that arrive alike, none takes ten times as long as most unless it was held up."""
    spread, arrival = record.spread.get("ttft_s", {}), record.scenario.arrival
    looped = arrival is not None and arrival.kind == "closed_loop"
    if not looped or "median" not in spread or "p99" not in spread:
        return record
    times = spread["p99"] / spread["median"]
    if times <= _STALLED:
        return record
    return flagged(record, make_flag("stalled", f"{times:.3g}"))


def _tokens_late(record: Record, outputs: float) -> float:
    """By how many tokens' time TTFT + (n − 1) · TPOT exceeds E2E."""
    ttft, tpot, e2e = (record.metrics[name] for name in ("ttft_s", "tpot_s", "e2e_s"))
    return (ttft + (outputs - 1) * tpot - e2e) / tpot


def _is_timed_in_full(record: Record) -> bool:
    """True for one sequence whose three times were measured, none worked out from the others."""
    times = {"ttft_s", "tpot_s", "e2e_s"}
    return (
        _is_one_sequence(record)
        and times <= record.metrics.keys()
        and not {"tpot_s", "e2e_s"} & set(record.derived)
    )


def _is_one_sequence(record: Record) -> bool:
    arrival, concurrency = record.scenario.arrival, record.scenario.concurrency
    fixed = arrival is not None and arrival.is_fixed_batch
    return fixed and (concurrency is None or concurrency == 1)


def _with_ttft_repaired(record: Record, outputs: float, late: float) -> Record:
    repaired = record.metrics["e2e_s"] - (outputs - 1) * record.metrics["tpot_s"]
    if repaired <= 0:
        detail = "E2E is shorter than (n − 1) · TPOT"
        return flagged(record, make_flag("definition_mismatch", detail))
    changed = msgspec.structs.replace(record, metrics={**record.metrics, "ttft_s": repaired})
    return flagged(changed, make_flag("late_stamp", f"{late:.2f}", ("ttft_s",)))


def place_in_table(where: str, line: int) -> str:
    """The place of a row that no column of its own gives a place to."""
    return f"{Path(where).name} line {line}"


def check_table(
    records: list[Record], lines: list[int], where: str, *, refuse_duplicates: bool
) -> list[Record]:
    """Checks that need the other rows: repeats, prompts that were cached, broken order."""
    records = _with_duplicates_flagged(records, lines, where, refuse_duplicates)
    for series in _series(records):
        _flag_reused_prompts(records, series)
        _explain_order(records, series)
    flag_starts(records)
    return check_loops(records)


def _with_duplicates_flagged(
    records: list[Record], lines: list[int], where: str, refuse: bool
) -> list[Record]:
    seen: dict[object, int] = {}
    checked: list[Record] = []
    for record, line in zip(records, lines, strict=True):
        key = _sameness(record, line, where)
        first = seen.setdefault(key, line)
        if first == line:
            checked.append(record)
        elif refuse:
            raise DataError(f"{where}: row at line {line} repeats line {first}; remove one of them")
        else:
            checked.append(flagged(record, make_flag("duplicate", f"line {first}")))
    return checked


def _sameness(record: Record, line: int, where: str) -> object:
    place = record.provenance.place
    own_place = "" if place == place_in_table(where, line) else place
    case = tuple(sorted(record.case.items(), key=lambda item: item[0]))
    return record.scenario, tuple(record.metrics.items()), case, own_place


def _series(records: list[Record]) -> list[list[int]]:
    """Indices of rows that differ in the length of the prompt alone, shortest prompt first."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        length = record.scenario.input_tokens
        if length is not None and "ttft_s" in record.metrics and _is_fixed(record):
            scenario = msgspec.structs.replace(record.scenario, input_tokens=None)
            groups[scenario, record.provenance.document].append(index)
    ordered = []
    for indices in groups.values():
        indices.sort(key=lambda i: records[i].scenario.input_tokens or 0.0)
        ordered.append(indices)
    return ordered


def _is_fixed(record: Record) -> bool:
    return record.scenario.arrival is not None and record.scenario.arrival.is_fixed_batch


def _flag_reused_prompts(records: list[Record], series: list[int]) -> None:
    """Flag a TTFT that two shorter prompts needed much longer for; one alone may be late itself."""
    longest: list[float] = []
    for index in series:
        ttft = records[index].metrics["ttft_s"]
        if len(longest) == 2 and ttft < _REUSED * longest[0]:
            detail = f"{ttft * 1e3:.4g} ms where two shorter prompts took {longest[0] * 1e3:.4g} ms"
            flag = make_flag("prefix_reuse", detail + " or more", ("ttft_s",))
            records[index] = flagged(records[index], flag)
            continue
        longest = sorted([*longest, ttft])[-2:]


def _explain_order(records: list[Record], series: list[int]) -> None:
    """Turn 'falls where it must rise' into a note where a late stamp before it was the cause."""
    for before, index in itertools.pairwise(series):
        record, previous = records[index], records[before]
        doubt = next((flag for flag in record.flags if flag.code == "non_monotone"), None)
        if doubt is None or "ttft_s" not in doubt.reason:
            continue
        was_late = any(flag.code == "late_stamp" for flag in previous.flags)
        if was_late and previous.metrics["ttft_s"] <= _ORDER * record.metrics["ttft_s"]:
            detail = "its TTFT seemed to fall, because the row before it was stamped late"
            note = make_flag("explained_order", detail)
            kept: tuple[Flag, ...] = tuple(flag for flag in record.flags if flag is not doubt)
            records[index] = msgspec.structs.replace(record, flags=(*kept, note))
