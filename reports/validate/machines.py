"""Machines that this suite profiled itself: fitted to what a campaign took, checked on the rest."""

from __future__ import annotations

from collections import Counter
from functools import cache

from analyzer.basis import Basis
from analyzer.calibrated import Calibration
from analyzer.systems_catalog import load_system
from calibration.corpus import PERF_DIR
from calibration.corpus.profiled import Profiled, load_profiled
from calibration.holdout import geomean_error
from calibration.machine_fit import fit_records, mostly_disturbed
from calibration.problem import METRICS
from reports.held_out import SHORT, Compared, compare, geomean
from reports.validate.table import Cell, Section, Table, table

TEXT = (
    "`plumbline profile all` and `plumbline calibrate --system auto` on a machine without a data "
    "sheet: its system file holds the best that was reached there. “Checked” are models, lengths "
    "and batches that no profile takes (`plumbline profile check`), each visited several times by "
    "processes of their own; what is measured is the lower quartile over the visits, in the "
    "campaign as in the check, and “noise” is the geomean difference between that of the earlier "
    "and of the later visits. “Left out” is each profiled model predicted from the others. Where "
    "others were on the machine for most of a campaign or a check, what they disturbed is taken "
    "all the same and counted, visit by visit, as “disturbed”: the noise then says what the "
    "figures are worth.",
)


@cache
def machines() -> Section:
    """One block of rows per machine."""
    found = [_lines(one) for one in load_profiled(PERF_DIR)]
    scores = [row for lines, _ in found for row in lines]
    cases = [row for _, lines in found for row in lines]
    return Section("machines", "Machines profiled by this suite", TEXT,
                   (_scores(scores), _cases(cases)))  # fmt: skip


def _lines(machine: Profiled) -> tuple[list[list[Cell]], list[list[Cell]]]:
    scores: list[list[Cell]] = []
    cases: list[list[Cell]] = []
    doubtful = mostly_disturbed(machine.records)
    for outcome in fit_records(machine.records, str(machine.system), doubtful):
        fitted = outcome.calibration
        checked = _checked(machine, fitted) if machine.check else None
        held = outcome.fitted.held_out.predicted
        observed = outcome.group.problem.observed
        for index, name in enumerate(METRICS):
            left_out = geomean_error(held[:, index], observed[:, index])
            scores.append(
                [machine.name, fitted.engine, SHORT[name], fitted.rows, fitted.models, left_out,
                 *_of(checked, index), _disturbed(machine)]
            )  # fmt: skip
        cases += [] if checked is None else _checked_cases(machine.name, checked)
    return scores, cases


def _checked(machine: Profiled, fitted: Calibration) -> Compared:
    basis = Basis(fitted.to_rates(), fitted.id, "default", fitted)
    system = load_system(machine.system)
    doubtful = mostly_disturbed(machine.check)
    return compare(machine.check, system, str(machine.system), doubtful, lambda _: basis)


def _disturbed(machine: Profiled) -> str:
    """Disturbed ones of all whole runs: of the campaign, and of the check."""
    parts = []
    for records in (machine.records, machine.check):
        whole = [record for record in records if record.kind == "e2e"]
        bad = sum(any("disturbed" in flag.reason for flag in record.flags) for record in whole)
        parts.append(f"{bad} of {len(whole)}")
    return ", ".join(parts)


def _of(checked: Compared | None, metric: int) -> list[Cell]:
    if checked is None:
        return [None, None, None, None]
    ratios = checked.scored(metric, fitted=False)
    models = len({row.model for row in checked.rows if not row.fitted})
    return [len(ratios), models, geomean(ratios), checked.noise(metric)]


def _scores(rows: list[list[Cell]]) -> Table:
    columns = (
        "machine", "engine", "metric", "rows:count", "models:count", "left out:percent",
        "checked rows:count", "checked models:count", "checked:percent", "noise:percent",
        "disturbed",
    )  # fmt: skip
    return table("machines", columns, rows, "**Geomean errors by machine**")


def _checked_cases(name: str, checked: Compared) -> list[list[Cell]]:
    rows = sorted(checked.rows, key=lambda row: (row.model, row.weights, row.batch))
    return [
        [
            name, row.model, row.weights, row.batch, row.input_tokens,
            *(cell for index in range(len(METRICS))
              for cell in (row.measured[index], row.predicted[index] / row.measured[index] - 1)),
        ]
        for row in rows
    ]  # fmt: skip


def _cases(rows: list[list[Cell]]) -> Table:
    timed = [part for name in METRICS for part in (f"{SHORT[name]}:ms", "off:signed")]
    columns = ("machine", "model", "weights", "batch:count", "prompt:count", *timed)
    counted = Counter(str(row[0]) for row in rows)
    said = ", ".join(f"{count} of {name}" for name, count in counted.items())
    return table("machines_checked", columns, rows, f"**Every checked case** ({said or 'none'})")
