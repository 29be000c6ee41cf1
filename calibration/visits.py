"""Several visits to one measurement, and the one figure that stands for them.

A processor of a shared host runs slower for spells of tens of seconds, whatever it runs: strangers
use its caches and its memory. Such spells only ever slow things down. So a case is visited several
times, minutes apart, and what counts is the LOWER QUARTILE of the visits' medians: a quarter of the
visits were faster. Campaigns and checks use the same figure. How far that figure of the earlier
visits lies from that of the later ones is the machine's noise.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import numpy as np

from analyzer.records import REPEAT, Flag, Record

SHARE = 0.25
LEAST_CALM = 2
STATISTIC = "lower quartile over visits of each visit's median"


def typical(values: Sequence[float]) -> float:
    """The lower quartile, between neighbours in proportion."""
    return float(np.quantile(np.asarray(values, dtype=np.float64), SHARE))


def by_case(records: Iterable[Record]) -> list[list[Record]]:
    """Visits to one case together, in their order; a record of a case visited once is alone."""
    cases: dict[tuple[Any, ...], list[Record]] = defaultdict(list)
    for record in records:
        cases[_key(record)].append(record)
    return [
        sorted(found, key=lambda record: record.case.get(REPEAT, 0)) for found in cases.values()
    ]


def _key(record: Record) -> tuple[Any, ...]:
    case = {name: value for name, value in record.case.items() if name != REPEAT}
    if REPEAT not in record.case:
        return (id(record),)
    return (record.kind, record.scenario, *sorted(case.items()))


def joined(records: Iterable[Record]) -> list[Record]:
    """One record per case."""
    return [_join(visits) for visits in by_case(records)]


def counted(visits: Sequence[Record]) -> list[Record]:
    """The visits that have figures, without those that others on the machine disturbed where two
    or more are left; a single calm one may have met a slow spell."""
    answered = [record for record in visits if record.metrics]
    calm = [record for record in answered if not is_disturbed(record)]
    return calm if len(calm) >= LEAST_CALM else answered


def is_disturbed(record: Record) -> bool:
    """Whether others were on the machine during all that this record holds."""
    return any("disturbed" in flag.reason for flag in record.flags)


def _join(visits: Sequence[Record]) -> Record:
    used = counted(visits)
    if len(visits) == 1 or not used:
        return visits[0]
    names = set.intersection(*(set(record.metrics) for record in used))
    medians = {name: sorted(record.metrics[name] for record in used) for name in sorted(names)}
    case = {name: value for name, value in used[0].case.items() if name != REPEAT}
    return msgspec.structs.replace(
        used[0],
        metrics={name: typical(values) for name, values in medians.items()},
        samples={name: tuple(values) for name, values in medians.items()},
        spread={
            name: {"ci_low": values[0], "ci_high": float(np.median(values))}
            for name, values in medians.items()
        },
        repeats=len(used),
        case=case,
        flags=_doubts(used) if all(map(is_disturbed, used)) else (),
    )


def _doubts(used: Sequence[Record]) -> tuple[Flag, ...]:
    return tuple({flag.code: flag for record in used for flag in record.flags}.values())


def between_halves(values: Sequence[float]) -> float:
    """|ln| between the figure of the earlier visits and that of the later; NaN for one visit."""
    if len(values) < 2:
        return float("nan")
    half = len(values) // 2
    return abs(float(np.log(typical(values[:half]) / typical(values[-half:]))))
