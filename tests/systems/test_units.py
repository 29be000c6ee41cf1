"""Quantities: decimal and binary prefixes are exact, and what is shown can be read back."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer import units
from analyzer.errors import ConfigError

FINITE = st.floats(allow_nan=False, allow_infinity=False)
DIMENSIONS = st.sampled_from(sorted(units.DIMENSIONS))


@given(FINITE, DIMENSIONS)
def test_what_is_shown_is_read_back_to_the_last_bit(value: float, dimension: str) -> None:
    assert units.parse(units.show(value, dimension), dimension) == value


@given(FINITE.filter(lambda value: abs(value) >= 1e-3), st.sampled_from(["bytes", "bandwidth"]))
def test_binary_prefixes_are_read_back_to_the_last_bit(value: float, dimension: str) -> None:
    assert units.parse(units.show(value, dimension, binary=True), dimension) == value


@given(st.floats(1e-12, 1e17), DIMENSIONS, st.integers(2, 6))
def test_rounding_loses_no_more_than_it_says(value: float, dimension: str, digits: int) -> None:
    shown = units.parse(units.show(value, dimension, digits=digits), dimension)
    assert math.isclose(shown, value, rel_tol=0.51 * 10.0 ** (1 - digits))


@given(st.integers(0, 10**7), st.integers(0, 9), st.sampled_from(["k", "M", "G", "T", "P"]))
def test_decimal_prefixes_are_correctly_rounded(whole: int, places: int, prefix: str) -> None:
    text = f"{whole}.{places} {prefix}B/s"
    power = {"k": 3, "M": 6, "G": 9, "T": 12, "P": 15}[prefix]
    exact = (Fraction(whole) + Fraction(places, 10)) * 10**power
    assert units.parse(text, "bandwidth") == float(exact)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("936 GB/s", "bandwidth", 936e9),
        ("0.1 TB", "bytes", 100e9),
        ("24 GiB", "bytes", 24 * 1024**3),
        ("24564 MiB", "bytes", 24564 * 1024**2),
        ("24GB", "bytes", 24e9),
        ("1_000 MB", "bytes", 1e9),
        ("1e3 GB", "bytes", 1e12),
        ("71 TFLOP/s", "compute", 71e12),
        ("660.6 TOPS", "compute", 660.6e12),
        ("9 PFLOPS", "compute", 9e15),
        ("400 Gb/s", "bandwidth", 50e9),
        ("400 Gbps", "bandwidth", 50e9),
        ("25 Gbit/s", "bandwidth", 3.125e9),
        ("2 us", "time", 2e-6),
        ("2 µs", "time", 2e-6),
        ("1695 MHz", "frequency", 1.695e9),
        ("350 W", "power", 350.0),
        ("80e9", "bytes", 80e9),
        (" 5 ", "time", 5.0),
    ],
)
def test_known_quantities(text: str, dimension: str, value: float) -> None:
    assert units.parse(text, dimension) == value


def test_gigabyte_and_gibibyte_differ_by_the_seven_percent_that_others_lose() -> None:
    ratio = units.parse("936 GiB/s", "bandwidth") / units.parse("936 GB/s", "bandwidth")
    assert ratio == pytest.approx(1.0737, abs=1e-4)
    assert units.GIB / units.GB == 1.073741824


@pytest.mark.parametrize(
    ("text", "dimension"),
    [
        ("24 gb", "bytes"),
        ("24 GB/s", "bytes"),
        ("24 mB", "bytes"),
        ("24 QB", "bytes"),
        ("12 Gi/s", "bandwidth"),
        ("71 TiFLOP/s", "compute"),
        ("2 minutes", "time"),
        ("two us", "time"),
        ("", "time"),
        ("nan s", "time"),
        ("1e999 s", "time"),
        ("1e4000 s", "time"),
        ("3 4 s", "time"),
    ],
)
def test_nonsense_is_refused_with_an_example(text: str, dimension: str) -> None:
    with pytest.raises(ConfigError, match=r'write e\.g\. "'):
        units.parse(text, dimension)


def test_unknown_dimension_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="bandwidth"):
        units.parse("1 GB/s", "bandwith")
    with pytest.raises(ConfigError, match="not a finite"):
        units.show(math.inf, "time")


@pytest.mark.parametrize(
    ("value", "dimension", "digits", "text"),
    [
        (936e9, "bandwidth", 3, "936 GB/s"),
        (999.96e9, "bytes", 3, "1 TB"),
        (0.0, "time", 3, "0 s"),
        (1.5e-3, "time", None, "1.5 ms"),
        (-2.5e-7, "time", None, "-250 ns"),
        (989.4e12, "compute", None, "989.4 TFLOP/s"),
    ],
)
def test_shown_as_people_write_it(
    value: float, dimension: str, digits: int | None, text: str
) -> None:
    assert units.show(value, dimension, digits=digits) == text
