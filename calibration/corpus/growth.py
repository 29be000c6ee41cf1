"""Rows that carry what is not their own: a start that a longer run of the same kind did not pay.

Where prompts and answers grow together, the time of a batch is a cost that stays, one that grows
with the length and one that grows with its square: a curve that bends upwards from nothing on. A
row above the line between its neighbours holds something that they do not, in practice kernels
that were compiled or looked up when their shape came by for the first time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import msgspec
import numpy as np

from analyzer.records import Record, flagged
from calibration.corpus.flags import make_flag

SHARE = 0.05
"""Of what the neighbours say, from which on a row's excess counts; timings scatter by less."""
LEAST_S = 0.3
"""Costs that stay (a request's way in and out) lift short rows by less than this."""
_ORDER = 1.05
_LENGTHS = ("input_tokens", "output_tokens")

Point = tuple[float, float]


def flag_starts(records: list[Record]) -> None:
    """Flag rows that hold a start, and take back what was said against others because of them."""
    for series in _series(records):
        points = [(_length(records[i]), records[i].metrics["e2e_s"]) for i in series]
        hull = lower_hull([(0.0, 0.0), *points])
        lengths, least = (np.array(values) for values in zip(*hull, strict=True))
        expected = np.interp([x for x, _ in points], lengths, least)
        for index, (_, took_s), least_s in zip(series, points, expected, strict=True):
            if took_s - least_s > max(LEAST_S, SHARE * least_s):
                detail = f"{took_s - least_s:.2g} s more than the {least_s:.3g} s"
                records[index] = flagged(records[index], make_flag("start_up", detail, ("e2e_s",)))
    _acquit(records)


def lower_hull(points: Iterable[Point]) -> list[Point]:
    """The points that no line between two others runs below, by rising first coordinate.

    Of points at one coordinate, as of a run that was repeated, the lowest counts.
    """
    hull: list[Point] = []
    for x, y in sorted(points):
        if hull and hull[-1][0] == x:
            continue
        while len(hull) > 1 and _rise(hull[-2], hull[-1]) * (x - hull[-2][0]) >= y - hull[-2][1]:
            hull.pop()
        hull.append((x, y))
    return hull


def _rise(start: Point, end: Point) -> float:
    return (end[1] - start[1]) / (end[0] - start[0])


def _length(record: Record) -> float:
    return float(record.scenario.output_tokens or 0.0)


def _series(records: list[Record]) -> list[list[int]]:
    """Rows without a doubt that differ in their length alone, three and more of them."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        scenario = record.scenario
        if not _whole(record) or _doubted(record):
            continue
        shape = (scenario.input_tokens or 0.0) / (scenario.output_tokens or 1.0)
        groups[_besides(record, _LENGTHS), record.provenance.document, shape].append(index)
    return [
        indices for indices in groups.values() if len({_length(records[i]) for i in indices}) > 2
    ]


def _whole(record: Record) -> bool:
    scenario = record.scenario
    fixed = scenario.arrival is not None and scenario.arrival.is_fixed_batch
    return bool(
        fixed and "e2e_s" in record.metrics and scenario.input_tokens and scenario.output_tokens
    )


def _doubted(record: Record, besides: str = "") -> bool:
    return any(
        flag.severity != "note" and flag.concerns("e2e_s") and flag.code != besides
        for flag in record.flags
    )


def _besides(record: Record, fields: Iterable[str]) -> object:
    return msgspec.structs.replace(record.scenario, **dict.fromkeys(fields))


def _acquit(records: list[Record]) -> None:
    """Turn 'falls where it must rise' into a note where what it falls from held a start.

    A source's list names the later of two rows. It stands acquitted if one of less work holds a
    start and no other one of less work took longer.
    """
    work = (*_LENGTHS, "concurrency")
    alike: dict[object, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        if _whole(record):
            alike[_besides(record, work), record.provenance.document].append(index)
    for indices in alike.values():
        for index in indices:
            doubt = next((f for f in records[index].flags if f.code == "non_monotone"), None)
            if doubt is None or _doubted(records[index], "non_monotone"):
                continue
            less = [records[i] for i in indices if _less(records[i], records[index])]
            starts = [record for record in less if _has_start(record)]
            sound = [record for record in less if not _doubted(record)]
            limit_s = _ORDER * records[index].metrics["e2e_s"]
            if starts and all(record.metrics["e2e_s"] <= limit_s for record in sound):
                detail = "it seemed to fall, because a row of less work holds a start"
                kept = tuple(flag for flag in records[index].flags if flag is not doubt)
                note = make_flag("explained_order", detail)
                records[index] = msgspec.structs.replace(records[index], flags=(*kept, note))


def _less(one: Record, other: Record) -> bool:
    """True where the one asks for less than the other, and for more in nothing."""
    amounts = [
        ((getattr(one.scenario, name) or 1.0), (getattr(other.scenario, name) or 1.0))
        for name in (*_LENGTHS, "concurrency")
    ]
    return all(a <= b for a, b in amounts) and any(a < b for a, b in amounts)


def _has_start(record: Record) -> bool:
    return any(flag.code == "start_up" for flag in record.flags)
