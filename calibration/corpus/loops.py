"""Closed loops that ran something else than their rows state, told from the rows beside them.

Repeats of one loop agree in their time per token within 1 %, and a prompt waits no less where more
requests are in flight. Rows that break either law are not of one configuration, or hold what no
later run pays. No prediction enters here.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

import msgspec

from analyzer.quirks import repaired
from analyzer.records import Record, Scenario, flagged
from analyzer.records_engine import engine_class
from calibration.corpus.flags import make_flag

WITH_AND_WITHOUT = frozenset({("silicon_sample", "sglang")})
"""Sources whose published search spaces run an engine with and without drafted tokens, and whose
rows do not say which."""
REPEATS = 1.05
"""Times per token of one loop that differ by more are not of one configuration."""
FALLS = 3.0
"""Work does not make a first token wait so many times as long as it does in a larger loop."""


class _Loop(NamedTuple):
    """What rows share that should take the same time."""

    series: Scenario
    """Everything but the load."""
    lengths: tuple[float | None, float | None]
    requests: float

    @property
    def release(self) -> tuple[str, str, str]:
        """What started alike."""
        return self.series.model, self.series.engine_version, self.series.weight_precision


def check_loops(records: list[Record]) -> list[Record]:
    """The records of a table, with closed loops that were not run as stated flagged."""
    loops = {index: loop for index, each in enumerate(records) if (loop := _loop(each))}
    if not loops:
        return records
    drafted = _drafted(records, loops)
    told = {loops[index] for index in drafted}
    mixed = {loops[index].series for index in drafted}
    started = _started(records, loops)
    checked = list(records)
    for index, loop in loops.items():
        if index in drafted:
            checked[index] = flagged(checked[index], make_flag("drafted"))
        elif loop.series in mixed and loop not in told:
            checked[index] = flagged(checked[index], make_flag("drafted_or_not"))
        if loop.release in started:
            checked[index] = flagged(checked[index], make_flag("start_in_loop"))
    return checked


def _loop(record: Record) -> _Loop | None:
    scenario, source = record.scenario, record.provenance.source
    if (source, engine_class(scenario.engine)) not in WITH_AND_WITHOUT:
        return None
    arrival, requests = scenario.arrival, scenario.concurrency
    measured = {"ttft_s", "tpot_s"} <= record.metrics.keys()
    if arrival is None or arrival.kind != "closed_loop" or scenario.prefill_pool or not measured:
        return None
    series = msgspec.structs.replace(
        repaired(scenario, source), concurrency=None, input_tokens=None, output_tokens=None
    )
    return _Loop(series, (scenario.input_tokens, scenario.output_tokens), requests or 0.0)


def _drafted(records: list[Record], loops: dict[int, _Loop]) -> set[int]:
    """The faster of two configurations under one description."""
    slowest: dict[_Loop, float] = defaultdict(float)
    for index, loop in loops.items():
        slowest[loop] = max(slowest[loop], records[index].metrics["tpot_s"])
    return {
        index
        for index, loop in loops.items()
        if records[index].metrics["tpot_s"] * REPEATS < slowest[loop]
    }


def _started(records: list[Record], loops: dict[int, _Loop]) -> set[tuple[str, str, str]]:
    """Releases of which some first tokens come far sooner where more requests are in flight."""
    curves: dict[_Loop, list[tuple[float, float]]] = defaultdict(list)
    for index, loop in loops.items():
        curves[loop._replace(requests=0.0)].append(
            (loop.requests, records[index].metrics["ttft_s"])
        )
    found = set()
    for curve, points in curves.items():
        least_s = float("inf")
        for _, ttft_s in sorted(points, reverse=True):
            least_s = min(least_s, ttft_s)
            if ttft_s > FALLS * least_s:
                found.add(curve.release)
    return found
