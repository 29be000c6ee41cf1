"""Several visits to one case: the figure that stands for them, and the noise between them."""

from __future__ import annotations

import math

import msgspec
import pytest

from analyzer.records import REPEAT, Flag, Provenance, Record, Scenario
from calibration.visits import between_halves, by_case, counted, joined, typical

DISTURBED = Flag(code="noisy", reason="kept disturbed blocks: contended 1×")


def _visit(turn: int | None, seconds: float, disturbed: bool = False, model: str = "m") -> Record:
    return Record(
        kind="e2e", metrics={"e2e_s": seconds}, provenance=Provenance(source="plumbline profile"),
        scenario=Scenario(model=model), case={"cache": "dynamic"} | _numbered(turn),
        flags=(DISTURBED,) if disturbed else (),
    )  # fmt: skip


def _numbered(turn: int | None) -> dict[str, int]:
    return {} if turn is None else {REPEAT: turn}


@pytest.mark.parametrize(
    ("values", "figure"), [([3.0], 3.0), ([1.0, 2.0], 1.25), ([5.0, 1.0, 2.0, 9.0, 3.0], 2.0)]
)
def test_the_figure_is_the_lower_quartile(values: list[float], figure: float) -> None:
    assert typical(values) == pytest.approx(figure)


def test_visits_to_a_case_become_one_record_and_others_stay_as_they_are() -> None:
    alone, failed = (
        _visit(None, 7.0),
        msgspec.structs.replace(_visit(0, 1.0, model="f"), metrics={}),
    )
    visits = [_visit(turn, seconds) for turn, seconds in ((3, 4.0), (0, 2.0), (2, 3.0), (1, 1.0))]
    assert [record.case[REPEAT] for record in by_case(visits)[0]] == [0, 1, 2, 3]
    found = joined([*visits, alone, failed])
    assert found[1:] == [alone, failed]
    assert found[0].metrics == {"e2e_s": pytest.approx(1.75)}
    assert found[0].repeats == 4
    assert found[0].samples == {"e2e_s": (1.0, 2.0, 3.0, 4.0)}
    assert REPEAT not in found[0].case
    assert found[0].flags == ()


def test_a_disturbed_visit_counts_only_where_no_two_calm_ones_were_made() -> None:
    calm, loud = [_visit(0, 2.0), _visit(1, 3.0)], [_visit(2, 1.0, disturbed=True)]
    assert counted([*calm, *loud]) == calm
    assert counted([calm[0], *loud]) == [calm[0], *loud]
    assert joined([calm[0], *loud])[0].flags == ()
    assert joined([*loud, _visit(3, 5.0, disturbed=True)])[0].flags == (DISTURBED,)


def test_noise_is_the_same_figure_of_earlier_against_later_visits() -> None:
    assert between_halves([1.0, 3.0, 2.0, 6.0]) == pytest.approx(math.log(2.0))
    assert between_halves([1.0, 3.0, 8.0, 1.0, 3.0]) == pytest.approx(0.0)
    assert math.isnan(between_halves([1.0]))
