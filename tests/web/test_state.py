"""The state of a page: what is written is read again, and nothing that is read breaks anything."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.errors import ConfigError
from reports.web.fields import MODEL
from reports.web.state import (
    Choice,
    Field,
    Flag,
    Real,
    Several,
    Whole,
    parse,
    plain,
    quoted,
    write,
)

NAMES = ("a100", "h100", "mi300x")
FIELDS: tuple[Field, ...] = (
    Whole("batch", "Batch", 8, 1, 65_536),
    Real("rate", "Rate", 2.5, 1e-3, 1e6),
    Real("slo", "SLO", None, 0.1, 1e6, optional=True),
    Choice("system", "System", "h100", lambda: NAMES),
    Several("systems", "Systems", ("a100", "h100"), lambda: NAMES, 2),
    Flag("detail", "Detail", False),
)
VALUES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 65_536),
        "rate": st.floats(1e-3, 1e6),
        "slo": st.none() | st.floats(0.1, 1e6),
        "system": st.sampled_from(NAMES),
        "systems": st.lists(st.sampled_from(NAMES), max_size=2, unique=True).map(tuple),
        "detail": st.booleans(),
    }
)
EXTREME = (
    "",
    " ",
    "0",
    "-1",
    "1e999",
    "nan",
    "inf",
    "9" * 400,
    "٣",
    "1_000",
    "0x10",
    "\x00",
    "a,b,,c",
)


@given(VALUES)
def test_what_is_written_is_read_again(values) -> None:
    found = parse(FIELDS, write(FIELDS, values))
    assert found.values == values
    assert not found.problems


def test_an_address_without_anything_is_the_default() -> None:
    found = parse(FIELDS, {})
    assert found.values == {field.name: field.default for field in FIELDS}
    assert write(FIELDS, found.values) == {}


KEYS = st.sampled_from([field.name for field in FIELDS]) | st.text(max_size=20)
TEXTS = (
    st.text(max_size=60) | st.sampled_from(EXTREME) | st.integers().map(str) | st.floats().map(str)
)


@given(st.dictionaries(KEYS, TEXTS, max_size=60))
def test_any_address_gives_legal_values_and_sentences(query) -> None:
    found = parse(FIELDS, query)
    values = found.values
    assert isinstance(values["batch"], int)
    assert 1 <= values["batch"] <= 65_536
    assert math.isfinite(values["rate"])
    assert values["slo"] is None or 0.1 <= values["slo"] <= 1e6
    assert values["system"] in NAMES
    assert set(values["systems"]) <= set(NAMES)
    assert len(values["systems"]) <= 2
    assert parse(FIELDS, write(FIELDS, values)).values == values
    for problem in found.problems:
        assert "\n" not in problem
        assert len(problem) < 300


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"batch": "0"}, "batch must lie between 1 and 65,536, not 0; 8 is used"),
        ({"batch": "many"}, "batch must be a whole number, not 'many'; 8 is used"),
        ({"rate": "nan"}, "rate must be a number, not 'nan'; 2.5 is used"),
        ({"system": "h10"}, "system 'h10' is not one of the 3 known (did you mean h100"),
        ({"systems": "a100,h100,mi300x"}, "systems takes at most 2 names, not 3"),
        ({"detail": "1"}, "detail is yes or no, not '1'; no is used"),
        ({"bacth": "4"}, "this page knows nothing called 'bacth' (did you mean batch?)"),
        ({"system": "x" * 500}, "system has 500 characters; 400 are read at most"),
    ],
)
def test_what_is_wrong_is_said(query, said) -> None:
    assert parse(FIELDS, query).problems[0].startswith(said)


def test_streamlits_own_keys_are_let_pass() -> None:
    assert not parse(FIELDS, {"embed": "true"}).problems


def test_a_field_must_say_how_it_is_read() -> None:
    with pytest.raises(NotImplementedError):
        Field("x", "X", 1).parse("1")
    with pytest.raises(ConfigError):
        FIELDS[0].parse("1.5")


def test_words_of_a_user_are_shown_as_they_stand() -> None:
    assert plain("![x](http://a.b)") == r"\!\[x\]\(http\:\/\/a\.b\)"
    assert quoted("a\nb\x1b") == "'a·b·'"
    assert len(quoted("y" * 1000)) < 50


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Qwen/Qwen3-235B-A22B-FP8", True),
        ("qwen3-235b-a22b-fp8", True),
        ("llama-3-8b", True),
        ("qwen9-1b", False),
        ("../secrets", False),
        ("x" * 399, False),
        ("llama-3-8b" + chr(0), False),
    ],
)
def test_a_model_may_be_spelled_as_on_the_hub(text: str, kept: bool) -> None:
    """What stands for a model is that model, with its own format; nothing else slips in."""
    found = parse((MODEL,), {"model": text})
    assert found.values["model"] == (text if kept else MODEL.default)
    assert bool(found.problems) != kept
    assert found.values["model"] in MODEL.offered(found.values["model"])
