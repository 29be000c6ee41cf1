"""What no fit used, and why: counts by reason, and every row that beats the hardware."""

from __future__ import annotations

import re
from collections import Counter

from calibration.collect import LeftOut
from calibration.run import Everything
from reports.validate.table import Cell, Section, table

IMPOSSIBLE = "faster than the hardware's peaks allow"
TEXT = (
    "No row is dropped in silence: every record of the corpus is either a case of one group or "
    "stands here with its reason. Figures within a reason are left out of its wording when "
    "counting.",
)


def excluded(found: Everything) -> Section:
    """Counts by reason and source; impossible rows one by one."""
    counts = Counter(
        (_without_figures(out), out.record.provenance.source) for out in found.collected.left_out
    )
    by_reason: dict[str, int] = Counter()
    for (reason, _), number in counts.items():
        by_reason[reason] += number
    order = sorted(counts, key=lambda pair: (-by_reason[pair[0]], pair[0], -counts[pair], pair[1]))
    lines: list[list[Cell]] = [[reason, source, counts[reason, source]] for reason, source in order]
    impossible = [_impossible(o) for o in found.collected.left_out if IMPOSSIBLE in o.reason]
    columns = ("source", "place", "system", "engine", "model", "what")
    tables = (
        table("by_reason", ("reason", "source", "rows:count"), lines),
        table("impossible", columns, sorted(impossible), "**Rows that beat the hardware**"),
    )
    return Section("excluded", "What was left out", TEXT, tables, page="excluded")


def _without_figures(out: LeftOut) -> str:
    reason = out.reason.split(": use one of")[0].split("; use one of")[0]
    model = out.record.scenario.model
    for name in sorted({model, model.split("/")[-1]}, key=len, reverse=True):
        if name:
            reason = reason.replace(name, "the model")
    reason = re.sub(r"^\S+ does not fit", "the model does not fit", reason)
    reason = re.sub(r"model \S+ is unknown.*|unknown model.*", "the model is not known", reason)
    return re.sub(r"\b\d[\d.,]*\b(?! bit)", "N", reason)[:160]


def _impossible(out: LeftOut) -> list[str]:
    record, scenario = out.record, out.record.scenario
    return [
        record.provenance.source,
        record.provenance.place,
        scenario.hardware,
        scenario.engine,
        scenario.model,
        out.reason.split(":")[0],
    ]


def left_out_counts(found: Everything) -> tuple[int, int]:
    """Rows left out, and those of them that beat the hardware."""
    left = found.collected.left_out
    return len(left), sum(IMPOSSIBLE in out.reason for out in left)
