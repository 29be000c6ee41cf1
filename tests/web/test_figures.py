"""Figures hold what they show: sums are whole, tables survive, nothing is drawn from nothing."""

from __future__ import annotations

import csv
import io
import json

import pytest

from reports.web import predicted
from reports.web.asking import ask
from reports.web.figure import csv_text, document, figure

ASKED = {"model": "llama-3-8b", "system": "H100-SXM", "batch": 8, "input": 1024, "output": 256}


@pytest.fixture(scope="module")
def found():
    return ask(ASKED)


def test_the_bars_of_a_phase_make_up_its_time(found) -> None:
    listed, _ = predicted.explained(found)
    for drawn, phase in zip(
        predicted.operators(found, listed),
        (found.prediction.prefill, found.prediction.decode),
        strict=True,
    ):
        at = drawn.place("time_s")
        assert sum(row[at] for row in drawn.rows) == pytest.approx(float(phase.total_s), rel=1e-9)
        assert sum(row[drawn.place("share")] for row in drawn.rows) == pytest.approx(1.0)


def test_the_memory_bar_is_the_whole_memory(found) -> None:
    drawn = predicted.memory(found)
    total = sum(row[drawn.place("bytes")] for row in drawn.rows)
    assert total == pytest.approx(float(found.prediction.memory.total_B))
    assert drawn.rules[0].value == found.system.device.memory_B


def test_the_curve_goes_through_what_was_asked(found) -> None:
    drawn = predicted.batches(found)
    asked = [row for row in drawn.rows if row[0] == 8]
    assert asked[0][1] == pytest.approx(float(found.prediction.tpot_s), rel=1e-9)
    low, high = drawn.place("low"), drawn.place("high")
    assert all(row[low] < row[1] < row[high] for row in drawn.rows)


def test_the_csv_is_the_table(found) -> None:
    listed, _ = predicted.explained(found)
    for drawn in (*predicted.operators(found, listed), predicted.batches(found)):
        rows = list(csv.reader(io.StringIO(csv_text(drawn))))
        assert len(rows) == len(drawn.rows) + 1
        assert rows[0][drawn.place(drawn.x)].startswith(drawn.columns[drawn.place(drawn.x)].title)
        for line, row in zip(rows[1:], drawn.rows, strict=True):
            assert float(line[drawn.place(drawn.x)]) == row[drawn.place(drawn.x)]


def test_what_the_browser_gets_is_plain_json(found) -> None:
    made = document(predicted.memory(found))
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_cells_without_a_number_are_empty() -> None:
    drawn = figure(
        "f", "F", "bar", (("a", "a"), ("b", "b", "s")), [("x", float("nan")), ("y", None)],
        x="b", y="a",
    )  # fmt: skip
    assert drawn.empty
    assert csv_text(drawn) == "a,b (s)\nx,\ny,\n"


def test_cards_carry_units_and_intervals(found) -> None:
    made = {card.label: card for card in predicted.cards(found)}
    assert made["Time to first token"].value.endswith(" ms")
    assert "of measurements" in made["Time per output token"].note
    assert "tok/s" in made["Decoding, whole system"].value
