"""Rows that no machine could have done, and series that are tainted by such rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from analyzer.model import MoE
from analyzer.records import Record
from analyzer.timing.rates import Rates
from calibration.problem import Case, Problem, least_round_s, predict
from calibration.repeated import REPEATED, repeats

FASTER_THAN_LIGHT = 1.03
"""Slack on peaks before a row is called impossible: data sheets round."""

SAME_PROMPTS = (
    "a batch of a mixture of experts of whose series some rows beat the hardware: its sequences "
    "were alike and visited the same few experts"
)
KNOWN_PROMPTS = (
    "a closed loop of whose series some rounds are shorter than their work at every peak: prompts "
    "came from a cache, or the layout is not the one stated"
)

OTHER_LIMIT = (
    "a closed loop whose requests waited for more answers than the places that memory leaves "
    "explain: another limit held, or other requests were in flight than is stated"
)
MORE_ANSWERS = 1.5
"""Whole answers more than expected that a first token may wait for; twice as many at most."""


def waits_for_more(case: Case) -> bool:
    """Whether requests waited longer than for the places that a closed loop is known to have.

    A round trip takes one answer; what queues, as many more as there are requests for a place.
    """
    ttft_s, tpot_s = case.observed[:2]
    if not case.looped or case.queued or not np.isfinite(ttft_s + tpot_s):
        return False
    answers = ttft_s / (tpot_s * max(case.workload.output_tokens, 1.0))
    expected = float(case.workload.batch) / case.running - 1.0
    return bool(answers > 2.0 * expected + MORE_ANSWERS)


def doubts(cases: list[Case]) -> list[str]:
    """Why each case stays out whatever the hardware could do; '' where nothing speaks against."""
    return [
        REPEATED if again else OTHER_LIMIT if waits_for_more(case) else ""
        for case, again in zip(cases, repeats(cases), strict=True)
    ]


def known_prompts(
    members: Sequence[tuple[Case, Record]], problem: Problem, observed: NDArray[np.float64]
) -> list[bool]:
    """Closed loops in a series of one model and version where some answer requests faster than
    they could be worked off, each metric by itself being possible."""

    def series(case: Case, record: Record) -> tuple[str, str, str]:
        return case.campaign, record.scenario.model, record.scenario.engine_version

    steps = np.array([case.workload.output_tokens - 1.0 for case in problem.cases])
    with np.errstate(invalid="ignore"):
        took_s = observed[:, 0] + steps * observed[:, 1]
        hurried = took_s * FASTER_THAN_LIGHT < least_round_s(problem, Rates.ideal())
    tainted = {series(*pair) for pair, too_fast in zip(members, hurried, strict=True) if too_fast}
    return [pair[0].looped and series(*pair) in tainted for pair in members]


def beats_light(problem: Problem) -> NDArray[np.bool_]:
    """Measured times, per case and metric, that are below what every peak reached would take."""
    with np.errstate(invalid="ignore"):
        least = predict(problem, Rates.ideal())
        return np.asarray(problem.observed * FASTER_THAN_LIGHT < least)


def alike_prompts(
    members: Sequence[tuple[Case, Record]], impossible: NDArray[np.bool_]
) -> list[bool]:
    """Static batches of routed models in a series where others are impossible."""

    def series(case: Case) -> tuple[str, str] | None:
        routed = any(isinstance(layer.ffn, MoE) for layer in case.model.layers)
        batched = not case.looped and case.workload.batch > 1
        return (case.campaign, case.group) if routed and batched else None

    tainted = {
        series(case) for (case, _), beats in zip(members, impossible, strict=True) if beats.any()
    } - {None}
    return [series(case) in tainted for case, _ in members]
