"""Error against papers: what each published table says, and how far predictions are from it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from calibration.problem import METRICS
from calibration.scored import OURS, OURS_OUT, UNSEEN, Scored
from calibration.tally import Tally, tally
from reports.validate.offloaded import flexgen_lines
from reports.validate.pick import NAMES, rows
from reports.validate.table import Cell, Section, Table, table

FIRST = ("fastertransformer", "gpt_fast", "tensorrt_llm", "lmdeploy")
TEXT = (
    "One line per published table and metric. Held out: by fits that never saw the model; "
    "in-sample: the table is part of the data that were fitted; system unseen: predicted from "
    "other machines only, as if the table had not been at hand. Bias is signed: above 0 is too "
    "slow.",
)
COLUMNS = (
    "table",
    "metric",
    "rows:count",
    "held-out geomean:percent",
    "held-out bias:signed",
    "held-out MAPE:percent",
    "in-sample geomean:percent",
    "in-sample bias:signed",
    "system unseen geomean:percent",
    "system unseen bias:signed",
)


def papers(scored: Sequence[Scored]) -> Section:
    """The named tables first, then every other source, then offloading and GenZ's rows."""
    known = sorted({c.campaign for one in scored for c in one.group.problem.cases})
    order = [*FIRST, *(name for name in known if name not in FIRST)]
    lines = [line for name in order for line in _source(scored, name)]
    tables = (table("sources", COLUMNS, lines), flexgen_lines(), _genz(scored))
    return Section("papers", "Error against papers", TEXT, tables)


def _source(scored: Sequence[Scored], source: str) -> list[list[Cell]]:
    def published(one: Scored) -> NDArray[np.bool_]:
        return np.array([case.campaign == source for case in one.group.problem.cases])

    lines: list[list[Cell]] = []
    for metric in METRICS:
        seen = rows(scored, OURS, metric, published).tally
        if not seen.rows:
            continue
        out = rows(scored, OURS_OUT, metric, published).tally
        far = rows(scored, UNSEEN, metric, published).tally
        lines.append(
            [
                source,
                NAMES[metric],
                seen.rows,
                out.geomean,
                out.bias,
                out.mape,
                seen.geomean,
                seen.bias,
                far.geomean,
                far.bias,
            ]
        )
    return lines


GENZ_ROWS: dict[tuple[str, str], tuple[float, str]] = {
    ("MI300X", "vllm-v0"): (0.065, "0.25"),
    ("Gaudi2", "optimum-habana"): (0.092, "0.6"),
}
"""Geomean error of GenZ when re-run at its published efficiencies, and those efficiencies."""
GENZ_MODEL = "llama-3-8b"
GENZ_BATCH = 16


def _genz(scored: Sequence[Scored]) -> Table:
    lines: list[list[Cell]] = []
    for one in scored:
        if one.key not in GENZ_ROWS:
            continue
        error, efficiency = GENZ_ROWS[one.key]
        out = _on_rows(one, OURS_OUT)
        seen = _on_rows(one, OURS)
        lines.append(
            [
                "/".join(one.key),
                out.rows,
                f"at {efficiency}: {100 * error:.1f} %",
                out.geomean,
                out.bias,
                out.mape,
                out.geomean_of_errors,
                seen.geomean,
            ]
        )
    columns = (
        "group",
        "rows:count",
        "GenZ re-run, geomean of % errors",
        "ours held-out geomean:percent",
        "bias:signed",
        "MAPE:percent",
        "geomean of % errors:percent",
        "ours in-sample geomean:percent",
    )
    caption = (
        "**The rows behind GenZ's 5.82 %**: Llama-3-8B, batch 16, one device, prompt and output "
        "of one length, E2E of LLM-Inference-Bench"
    )
    return table("genz_rows", columns, lines, caption)


def _on_rows(one: Scored, way: str) -> Tally:
    chosen = genz_rows(one)
    index = METRICS.index("e2e_s")
    return tally(one.predicted[way][chosen, index], one.measured[chosen, index])


def genz_rows(one: Scored) -> NDArray[np.bool_]:
    """Rows of one group that the paper's platform comparison used."""
    return np.array(
        [
            GENZ_MODEL in case.model.name.lower()
            and case.workload.batch == GENZ_BATCH
            and case.plan.devices == 1
            and case.workload.input_tokens == case.workload.output_tokens
            for case in one.group.problem.cases
        ]
    )
