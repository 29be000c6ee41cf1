"""Llama-2-7B on one and two RTX 3090: what the seeds' figures show, held out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.problem import METRICS
from calibration.scored import Scored
from calibration.splits import KEY, Half, Protocol, protocol
from reports.validate.pick import NAMES
from reports.validate.table import Cell, Section, Table, table

Array = NDArray[np.float64]
TEXT = (
    "32 prompts of 24 to 3,890 tokens, 200 output tokens, one request at a time. Rates are fitted "
    "to a random half of the prompts and scored on the other half, 30 times (seeds 0 to 29); "
    "priors are the generic ones, so nothing is known here of any other system. With two cards all "
    "rates of one card are frozen (fitted to all of its rows), and only the collectives' latency "
    "and bandwidth and the host's launch time, which a single card does not show, come from half "
    "of the rows of two.",
    "Below: each request's mean prediction over the splits in which it was held out. The first "
    "figure shows the relative error of each request, the second the absolute values, measured and "
    "predicted, with the correlation, the third what a request's time is made of.",
)
ASKED = {
    "one card": {"ttft_s": 0.025, "tpot_s": 0.005, "e2e_s": 0.008},
    "two cards": {"ttft_s": 0.04, "tpot_s": 0.015, "e2e_s": 0.012},
}


class Halves(NamedTuple):
    """The protocol's outcome by number of cards."""

    found: Protocol

    def each(self) -> dict[str, tuple[Half, Array]]:
        """Name, outcome and measured times."""
        one, two = self.found.problems
        return {
            "one card": (self.found.one_card, one.observed),
            "two cards": (self.found.two_cards, two.observed),
        }


def run(scored: Sequence[Scored], seeds: int) -> Halves | None:
    """Run the protocol, where the rows are there."""
    group = next((one.group for one in scored if one.key == KEY), None)
    return Halves(protocol(group.problem, seeds)) if group is not None else None


def rtx3090(halves: Halves | None) -> Section:
    """The half-split table, and every request."""
    if halves is None:
        return Section("rtx3090", "RTX 3090", ("The rows of the RTX 3090 are not in this data.",))
    columns = (
        "cards",
        "metric",
        "rows:count",
        "splits:count",
        "MAPE on the other half:percent",
        "unluckiest split:percent",
        "asked:percent",
        "correlation:number",
    )
    lines = [
        line
        for name, (half, measured) in halves.each().items()
        for line in _lines(name, half, measured)
    ]
    figures = ("rtx3090_error", "rtx3090_absolute", "rtx3090_parts")
    return Section(
        "rtx3090",
        "RTX 3090, Llama-2-7B",
        TEXT,
        (table("halves", columns, lines), _requests(halves)),
        figures,
        page="rtx3090",
    )


def summary(halves: Halves | None) -> Section:
    """The half-split table alone, for the main page."""
    full = rtx3090(halves)
    return Section(full.name, full.title, full.text[:1], full.tables[:1])


def _lines(name: str, half: Half, measured: Array) -> list[list[Cell]]:
    lines: list[list[Cell]] = []
    for index, metric in enumerate(METRICS):
        both = np.isfinite(half.predicted[:, index])
        matched = np.corrcoef(half.predicted[both, index], measured[both, index])[0, 1]
        lines.append(
            [
                name,
                NAMES[metric],
                half.rows,
                half.seeds,
                half.errors[metric],
                half.worst[metric],
                ASKED[name][metric],
                float(matched),
            ]
        )
    return lines


def _requests(halves: Halves) -> Table:
    lines: list[list[Cell]] = []
    for name, (half, measured) in halves.each().items():
        problem = halves.found.problems[name == "two cards"]
        prompts = np.array([case.workload.input_tokens for case in problem.cases])
        for row in np.argsort(prompts, kind="stable"):
            cells: list[Cell] = [name, float(prompts[row])]
            for index in range(len(METRICS)):
                cells += [
                    float(measured[row, index]),
                    float(half.predicted[row, index] / measured[row, index] - 1),
                ]
            lines.append(cells)
    columns = ["cards", "prompt:count"]
    for metric in METRICS:
        columns += [f"{NAMES[metric]} measured:ms", f"{NAMES[metric]} error:signed"]
    return table("requests", columns, lines, "**Every request**")
