"""The project's front page states the report's own figures, and none of an earlier one."""

from __future__ import annotations

import json
from pathlib import Path

from reports.validate import front
from reports.validate.command import FOLDER, README


def test_the_readme_says_what_the_report_says() -> None:
    numbers = json.loads((FOLDER / "numbers.json").read_text(encoding="utf-8"))
    assert front.block(numbers) in README.read_text(encoding="utf-8"), "run plumbline validate"


def test_only_what_lies_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"before\n{front.BEGIN}\nold\n{front.END}\nafter\n", encoding="utf-8")
    front.update(page, FOLDER / "numbers.json")
    now = page.read_text(encoding="utf-8")
    assert now.startswith(f"before\n{front.BEGIN}\n")
    assert now.endswith(f"{front.END}\nafter\n")
    assert "old" not in now
    bare = tmp_path / "bare.md"
    bare.write_text("no marks\n", encoding="utf-8")
    front.update(bare, FOLDER / "numbers.json")
    assert bare.read_text(encoding="utf-8") == "no marks\n"
