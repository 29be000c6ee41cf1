"""Pages that open from a file: whole in themselves, and safe whatever their data says."""

from __future__ import annotations

import json
import re

import pytest

from plumbline import main
from reports.web import static_site
from reports.web.static_compare import COLUMNS, comparison
from reports.web.static_validation import validation
from reports.web.validated import NUMBERS, TEXTS, load

from .made_up_points import made_up_points


@pytest.fixture
def points(tmp_path):
    made_up_points(tmp_path)
    return load(tmp_path)


def test_a_page_asks_for_nothing_else(points) -> None:
    text = static_site.page("validation", "Validation", "About.", validation(points))
    assert not re.search(r'(src|href)="(?!data:,|\w+\.html)', text)
    assert "@import" not in text
    assert "fetch(" not in text
    links = set(re.findall(r"https?://[^\"' <]+", text))
    assert links <= {"http://www.w3.org/2000/svg"}


def test_data_cannot_end_the_script() -> None:
    text = static_site.page("validation", "V", "A.", {"x": "</script><script>alert(1)</script>"})
    assert "</script><script>alert" not in text
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text)
    assert found is not None
    assert json.loads(found[1]) == {"x": "</script><script>alert(1)</script>"}


def test_the_packed_report_is_the_report(points) -> None:
    made = validation(points)
    for name in TEXTS:
        packed = made["texts"][name]
        assert [packed["names"][code] for code in packed["codes"]] == points.texts[name].tolist()
    for name in NUMBERS:
        assert made["numbers"][name] == pytest.approx(points.numbers[name].tolist())


def test_every_comparison_has_figures_or_a_reason() -> None:
    made = comparison(("llama-3.1-8b",), ("H100-SXM", "RTX4090"))
    problem, time_s = COLUMNS.index("problem"), COLUMNS.index("ttft_s")
    assert made["rows"]
    for row in made["rows"]:
        assert len(row) == len(COLUMNS)
        assert bool(row[problem]) == (row[time_s] is None)


def test_the_command_writes_them_all(tmp_path, monkeypatch, capsys, points) -> None:
    small = {
        "validation": ("Validation", "A.", lambda: validation(points)),
        "compare": ("Compare", "B.", lambda: comparison(("qwen3-8b",), ("H100-SXM",))),
    }
    monkeypatch.setattr(static_site, "PAGES", small)
    assert main(["web", "--static", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.count("wrote ") == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.html", "index.html", "validation.html",
    ]  # fmt: skip


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys) -> None:
    (tmp_path / "file").write_text("")
    assert main(["web", "--static", str(tmp_path / "file" / "out")]) == 2
    assert "cannot be made" in capsys.readouterr().err
