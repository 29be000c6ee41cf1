"""numbers.json: every table as stored, and what the drift check compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from calibration.export import digest
from calibration.problem import METRICS
from calibration.run import Everything
from calibration.scored import Scored
from reports.validate.groups import in_sample
from reports.validate.table import Section, rounded

SCHEMA = 1


def numbers(found: Everything, scored: Sequence[Scored], sections: Sequence[Section]) -> str:
    """The document as text; keys in a fixed order."""
    made = {
        "schema": SCHEMA,
        "groups": {"/".join(one.key): fingerprint(one) for one in scored},
        "tables": {
            f"{section.name}/{one.name}": {
                "columns": [column.title for column in one.columns],
                "rows": one.rows,
            }
            for section in sections
            for one in section.tables
        },
    }
    return _compact(made)


def fingerprint(one: Scored) -> dict[str, Any]:
    """What must come out again from the shipped rates and the data."""
    errors = zip(METRICS, in_sample(one), strict=True)
    return {
        "rows": len(one.group.records),
        "data_sha256": digest(one.group.records),
        "in_sample": {metric: rounded(error) for metric, error in errors},
    }


def _compact(made: dict[str, Any]) -> str:
    """One line per row, so that changes can be read in a diff."""
    lines = ["{", f'"schema": {made["schema"]},', '"groups": {']
    entries = [f"{json.dumps(k)}: {json.dumps(v)}" for k, v in made["groups"].items()]
    lines += [",\n".join(entries), "},", '"tables": {']
    blocks = []
    for name, table in made["tables"].items():
        body = ",\n".join(json.dumps(row, ensure_ascii=False) for row in table["rows"])
        heads = json.dumps(table["columns"], ensure_ascii=False)
        blocks.append(f'{json.dumps(name)}: {{"columns": {heads}, "rows": [\n{body}]}}')
    lines += [",\n".join(blocks), "}}"]
    return "\n".join(lines) + "\n"
