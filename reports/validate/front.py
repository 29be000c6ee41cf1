"""The few figures that the project's front page states: written from the report's own numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from reports.files import replacing

BEGIN, END = "<!-- validation: begin -->", "<!-- validation: end -->"
WAYS = {
    "default 0.6": "0.6 of every peak",
    "one factor, model held out": "one fitted efficiency, model held out",
    "nearest row scaled, model held out": "nearest measured row, scaled, model held out",
    "ours, system unseen": "Plumbline, system held out",
    "ours, model held out": "Plumbline, model held out",
    "ours, in-sample": "Plumbline, in-sample",
}
"""Rows of the report's table of baselines, in words for newcomers."""
OURS = "ours, model held out"


def update(readme: Path, numbers: Path) -> None:
    """Put today's figures between the two marks of a page; a page without them is left alone."""
    page = readme.read_text(encoding="utf-8") if readme.exists() else ""
    if BEGIN not in page or END not in page:
        return
    before, rest = page.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    text = block(json.loads(numbers.read_text(encoding="utf-8")))
    with replacing(readme) as stream:
        stream.write(f"{before}{text}{after}")


def block(numbers: dict[str, Any]) -> str:
    """The text between the marks, marks included."""
    tables = numbers["tables"]
    fixed, served, offline = (
        {row["way"]: row for row in _rows(tables[f"baselines/{name}"])}
        for name in ("fixed_batch", "served", "offline")
    )
    head = {(row["load"], row["metric"]): row for row in _rows(tables["headline/headline"])}
    lines = [
        BEGIN,
        "Error on models that the fit never saw: each model of a (system, engine) is predicted",
        "from the others. Geomean error is exp(mean |ln(predicted/measured)|) − 1.",
        "",
        "| fixed batches, all rows together | time per token | end to end |",
        "|---|---:|---:|",
        *(f"| {said} | {_of(fixed[way], 'TPOT')} | {_of(fixed[way], 'E2E')} |"
          for way, said in WAYS.items()),
        "",
        *_groups(head),
        f"Continuous batching is harder: time per token {_of(served[OURS], 'TPOT')}, time to first",
        f"token {_of(served[OURS], 'TTFT')} with no measurement of that model on that system;",
        f"offline throughput {_of(offline[OURS], 'TPOT')}. The whole report, with intervals and",
        "their measured coverage, is in [reports/validation](reports/validation/README.md) and",
        "regenerates with `plumbline validate`, this paragraph included.",
        END,
    ]  # fmt: skip
    return "\n".join(lines)


def _groups(head: dict[tuple[str, str], dict[str, Any]]) -> list[str]:
    whole, token = head["fixed batch", "E2E"], head["fixed batch", "TPOT"]
    return [
        "By (system, engine) with four models or more, held out: end to end "
        f"{_percent(whole['median'])} in the middle",
        f"of {whole['groups']} groups, {_percent(whole['worst'])} in the worst; time per token "
        f"{_percent(token['median'])} in the middle of {token['groups']},",
        f"{_percent(token['worst'])} in the worst.",
    ]


def _rows(table: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]


def _of(row: dict[str, Any], metric: str) -> str:
    return _percent(row[f"geomean error {metric}"])


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
