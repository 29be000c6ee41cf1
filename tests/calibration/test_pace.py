"""The machine's pace: what the gauge said then and now, and what knowing it would have changed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from analyzer.records import REPEAT, Provenance, Record
from calibration.pace import PIECES, pace_of, said, slowed, slower
from profilers import gauge


def _visit(piece: str, turn: int, seconds: float | None) -> Record:
    return Record(
        kind="operator", metrics={} if seconds is None else {"latency_s": seconds},
        provenance=Provenance(source="plumbline profile"), case={"op": piece, REPEAT: turn},
    )  # fmt: skip


def test_the_gauge_that_is_measured_is_the_one_that_is_read() -> None:
    assert list(PIECES) == list(gauge.PIECES)


def test_pace_is_the_lower_quartile_of_each_piece_and_failures_say_nothing() -> None:
    records = [_visit("gauge_step", turn, 1.0 + turn) for turn in range(5)]
    records += [_visit("gauge_step", 9, None), _visit("gemm", 0, 1.0)]
    assert pace_of(records) == {"gauge_step": pytest.approx(2.0)}
    assert pace_of([]) == {}


def test_drift_is_told_of_what_was_gauged_both_times() -> None:
    then = {"gauge_product": 2.0, "gauge_step": 1.0}
    drift = slower(then, {"gauge_step": 1.12, "gauge_stream": 3.0})
    assert drift == {"gauge_step": pytest.approx(0.12)}
    assert said(drift) == "an imitated step +12.0%"
    assert said(slower({}, then)) == ""


def test_predictions_that_knew_the_pace_are_slower_by_it() -> None:
    ratios = np.log(np.array([0.5, 1.0]))
    assert slowed(ratios, {"gauge_step": 1.0}) == pytest.approx([0.0, math.log(2.0)])
    assert slowed(ratios, {}) == pytest.approx(ratios)
