"""Where the whole of a served request lies, from the intervals of its two parts."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import pytest

from analyzer.basis import Basis, of_parts
from analyzer.calibrated import Calibration, calibrations, load_calibration

POINTS = Path(__file__).parents[2] / "reports" / "validation" / "points.csv"
SAME = ("system", "engine", "model", "devices", "batch", "input", "output", "weights", "source")


def served() -> dict[tuple[str, ...], dict[str, tuple[float, float]]]:
    """Rows under a load with both parts measured: (measured, predicted without its model)."""
    rows: dict[tuple[str, ...], dict[str, tuple[float, float]]] = defaultdict(dict)
    seen: dict[tuple[str, ...], int] = defaultdict(int)
    with POINTS.open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            if row["load"] != "served" or not row["held_out_s"]:
                continue
            key = tuple(row[name] for name in SAME)
            number = seen[*key, row["metric"]]
            seen[*key, row["metric"]] += 1
            pair = float(row["measured_s"]), float(row["held_out_s"])
            rows[*key, str(number)][row["metric"]] = pair
    return {key: found for key, found in rows.items() if {"ttft", "tpot"} <= set(found)}


def covered(key: tuple[str, ...], parts: dict[str, tuple[float, float]], by: Calibration) -> bool:
    """Whether TTFT + steps * TPOT, as measured, lies in the interval of the predicted sum."""
    (first, first_p), (each, each_p) = parts["ttft"], parts["tpot"]
    steps = float(key[SAME.index("output")]) - 1.0
    basis = Basis(by.to_rates(), by.id, "default", by)
    held = of_parts(basis, first_p, first_p + steps * each_p)
    assert held is not None
    assert held.level == pytest.approx(0.9)
    return bool(held.low <= first + steps * each <= held.high)


def test_the_sum_of_two_intervals_holds_what_was_measured() -> None:
    """At least as often as it claims, on models that the fit never saw; and it is too wide."""
    found = served()
    known = {key: load_calibration(*key) for key in set(calibrations())}
    inside = [
        covered(key, parts, known[key[0], key[1]])
        for key, parts in found.items()
        if (key[0], key[1]) in known and known[key[0], key[1]].band("ttft_s") is not None
        and known[key[0], key[1]].band("tpot_s") is not None
    ]  # fmt: skip
    assert len(inside) > 1000
    assert sum(inside) / len(inside) >= 0.9
