"""Tables, Markdown, HTML and figures: one number, printed the same everywhere."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from reports.plots import drawing, svg, thinned
from reports.validate.markdown import page
from reports.validate.page import html, marked
from reports.validate.table import Section, printed, rounded, table

SAMPLE = table(
    "sample",
    ("name", "rows:count", "error:percent", "bias:signed"),
    [["a|b", 12345, 0.123456, -0.05], ["<c>", 1, float("nan"), 0.0]],
)


def test_cells_are_rounded_once_and_missing_ones_stay_missing():
    assert SAMPLE.rows[0] == ("a|b", 12345, 0.1235, -0.05)
    assert SAMPLE.rows[1][2] is None
    assert rounded(-0.0) == 0.0


@pytest.mark.parametrize(
    ("cell", "form", "text"),
    [
        (0.1235, "percent", "12.3"),
        (0.0031, "percent", "0.31"),
        (2.5, "percent", "250"),
        (0.05, "signed", "+5.0"),
        (-0.05, "signed", "-5.0"),
        (0.0, "signed", "0"),
        (12345, "count", "12,345"),
        (0.0123, "ms", "12.3"),
        (None, "percent", "–"),
    ],
)
def test_how_cells_are_printed(cell, form, text):
    assert printed(cell, form) == text


def test_markdown_keeps_a_row_on_one_line_with_as_many_cells_as_the_head():
    text = page("T", [Section("s", "S", ("words",), (SAMPLE,))])
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert len(lines) == 4
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) == 1


def test_the_page_needs_nothing_from_elsewhere_and_escapes_what_it_shows():
    figure = '<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"></svg>'
    text = html("T & U", [Section("s", "S", ("- one\n- two",), (SAMPLE,), ("f",))], {"f": figure})
    assert "&lt;c&gt;" in text
    assert "<c>" not in text
    assert "<svg" in text
    assert not re.search(r'(src|href)="(?!#)', text)
    assert "<li>one</li><li>two</li>" in text


def test_marks_nest_in_escaped_text():
    assert marked("**a** < `b`") == "<b>a</b> &lt; <code>b</code>"


def draw() -> str:
    with drawing() as plt:
        figure, axes = plt.subplots()
        axes.plot(np.arange(50), np.sqrt(np.arange(50)), "o", alpha=0.5)
        axes.plot(np.arange(50), np.arange(50), "s", color="red")
        return svg(figure)


def test_a_figure_is_the_same_every_time_well_formed_and_without_dates():
    text = draw()
    assert text == draw()
    assert "date" not in text.lower()
    root = ET.fromstring(text)  # noqa: S314
    markers = [e for e in root.iter() if e.tag.endswith("use") and "style" in e.attrib]
    assert not [m for m in markers if "opacity" in m.attrib["style"]], "said once, around them"


def test_thinning_keeps_the_ends_and_never_exceeds():
    assert thinned(5, 10).tolist() == [0, 1, 2, 3, 4]
    kept = thinned(1000, 37)
    assert len(kept) == 37
    assert (kept[0], kept[-1]) == (0, 999)
