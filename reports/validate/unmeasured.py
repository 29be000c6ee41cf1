"""What to expect of a system, a maker or an engine that nobody measured, and whether bands hold."""

from __future__ import annotations

from calibration.run import Everything
from calibration.strangers import Unit, coverage, enough, pooled_error, units
from reports.validate.pick import NAMES
from reports.validate.table import Cell, Section, table

TEXT = (
    "Each (system, engine) is predicted by relatives that have less and less in common with it. "
    "System: all that was measured on it is left out. Maker: all systems of its maker. Engine: "
    "the system, and all generations of the engine wherever they ran. Maker and engine: both. "
    "Every (system, engine) counts once in the error and in its coverage, one of fewer than eight "
    "rows in proportion; the band that a system is held against comes from the other systems.",
)
COLUMNS = (
    "left out",
    "load",
    "metric",
    "systems with engines:count",
    "rows:count",
    "mean error of each:percent",
    "nominal:percent",
    "covered rows:percent",
    "covered systems with engines:percent",
    "measured/predicted from:number",
    "to:number",
)
LEVEL = 0.9


def unmeasured(found: Everything) -> Section:
    """One line per what is left out, load and metric."""
    groups = found.collected.groups
    lines: list[list[Cell]] = []
    for name, predicted in found.pretended.items():
        for load, served in (("fixed batch", False), ("load", True)):
            for metric, known in units(groups, predicted, served).items():
                if enough(known) or (known and served):
                    lines.append([name, load, NAMES[metric], *_line(known)])
    made = (table("unmeasured", COLUMNS, lines),)
    return Section("unmeasured", "What nobody measured", TEXT, made)


def _line(known: list[Unit]) -> list[Cell]:
    held = coverage(known, LEVEL)
    return [
        len(known),
        sum(len(unit.values) for unit in known),
        pooled_error(known),
        LEVEL,
        held.rows,
        held.units,
        round(float(held.low_ratio), 3),
        round(float(held.high_ratio), 3),
    ]
