"""What a finished fit has to say for itself: errors beside baselines, and what stayed unknown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import PARAMETERS, Rates
from calibration.collect import LeftOut
from calibration.export import IDENTIFIED_SHARE
from calibration.fit import Fit
from calibration.holdout import bias, geomean_error, mape
from calibration.nearest import nearest
from calibration.one_factor import OneFactor
from calibration.problem import METRICS, Problem, predict
from calibration.sensitivity import log_jacobian

Array = NDArray[np.float64]

WEIGHTED_SPREAD = 0.05
CONFUSED = 0.8
"""Correlation, in what the fit learnt, from which two rates count as not told apart."""

SUPPLIES: dict[str, str] = {
    "gemm_eff_32": "TTFT of long prompts in fp32",
    "gemm_eff_16": "TTFT of long prompts with 16-bit weights",
    "gemm_eff_8": "TTFT of long prompts with 8-bit weights",
    "gemm_eff_block": "TTFT of long prompts with 8-bit weights that have a scale per block",
    "gemm_eff_4": "TTFT of long prompts with 4-bit weights",
    "gemm_half": "TTFT of short prompts (32 to 256 tokens), or TPOT at batches of 32 to 256",
    "expert_eff_8": "TPOT of a mixture in 8 bits beside the same in 16",
    "expert_eff": "TPOT of a mixture of experts beside that of a dense model",
    "expert_gemm_eff": "TTFT of a mixture of experts beside that of a dense model",
    "attention_eff": "TTFT of prompts of 16 thousand tokens and more",
    "attention_half": "TTFT at many prompt lengths from 256 to 4096 tokens",
    "mem_eff": "TPOT at batch 1 of a model of 7 billion parameters or more, 16-bit weights",
    "mem_eff_8": "TPOT at batch 1 with 8-bit weights",
    "mem_eff_4": "TPOT at batch 1 with 4-bit weights",
    "kv_eff": "TPOT at long contexts (8 thousand tokens and more) and batches of 16 and more",
    "kv_splits": "TPOT at batch 1 for contexts from 1 to 16 thousand tokens",
    "mem_wide": "TPOT of one model in fp32 and in 16 bits",
    "kv_wide": "TPOT at long contexts in fp32 and in 16 bits",
    "attention_wide": "TTFT of long prompts in fp32 and in 16 bits",
    "half_wide": "TTFT of short prompts, or TPOT at batches of 4 to 32, in fp32 and in 16 bits",
    "kv_narrow_eff": "TPOT at long contexts with an 8-bit cache",
    "stream_overlap": "TTFT of long prompts through one, two and four pipeline stages",
    "cold_s": "TTFT of a first run beside that of a second",
    "unsplit_cost": "TPOT at batches on both sides of 512 queries (sequences × heads per device)",
    "query_cost": "TPOT at long contexts and large batches of models with unlike query heads",
    "gqa_exponent": "TPOT at long contexts of models with and without grouped heads",
    "vector_eff": "TTFT of a small model (below 2 billion parameters)",
    "rows_few": "TPOT in fp32 at batches of 2 and 3",
    "turned_eff": "TPOT at batch 1 of a GPT-2 in 16 bits under transformers, on a processor",
    "turned_wide": "TPOT at batch 1 of a GPT-2 in fp32 under transformers, on a processor",
    "rows_wide": "TPOT in fp32 at batch 1 and at batches of 2 to 16",
    "sharpness": "TPOT at batches from 32 to 512",
    "sharpness_wide": "TTFT of short prompts in fp32 and in 16 bits",
    "linear_s": "TPOT at batch 1 of a wide and a narrow small model, on a processor",
    "launch_s": "TPOT at batch 1 of two small models with different numbers of layers",
    "host_launch_s": "TPOT at batch 1 of a small model on an engine without CUDA graphs",
    "prefill_launch_s": "TTFT of short prompts at concurrency 1 of two models of different depth",
    "step_s": "TPOT at batch 1 of a small model (below 2 billion parameters)",
    "sequence_s": "TPOT of a small model at batches from 64 to 512",
    "prefill_s": "TTFT of prompts of a few tokens",
    "token_s": "TTFT and TPOT under a closed loop with short and with long prompts",
    "burst": "TTFT under a closed loop at several concurrencies",
    "interference": "TPOT under a closed loop with long prompts and short outputs",
    "collective_s": "TPOT at batch 1 with tp = 2 beside tp = 1",
    "link_eff": "TTFT of long prompts with tp = 2 beside tp = 1",
    "wave_loss": "TTFT at prompt lengths just above multiples of 128 beside those multiples",
}
"""The measurement that would tell a rate."""


class Baseline(NamedTuple):
    """Errors of one way of predicting, by metric; NaN where there is no prediction."""

    name: str
    geomean: tuple[float, ...]
    mape: tuple[float, ...]
    bias: tuple[float, ...]


def baselines(problem: Problem, fit: Fit, held_out: Array) -> list[Baseline]:
    """Ours beside what one would do without us, on the same rows."""
    factor = OneFactor(problem)
    copied, _ = nearest(problem)
    ways = {
        "ours, held out by model": held_out,
        "ours, in-sample": predict(problem, fit.rates),
        "one system_eff, held out by model": factor.held_out(),
        "one system_eff, in-sample": factor.in_sample(),
        "nearest row of another model": copied,
        "default system_eff 0.6": predict(problem, Rates.default()),
        "ideal, every peak reached": predict(problem, Rates.ideal()),
    }
    return [_baseline(name, predicted, problem.observed) for name, predicted in ways.items()]


def _baseline(name: str, predicted: Array, observed: Array) -> Baseline:
    def each(error: object) -> tuple[float, ...]:
        columns = range(len(METRICS))
        return tuple(error(predicted[:, i], observed[:, i]) for i in columns)  # type: ignore[operator]

    return Baseline(name, each(geomean_error), each(mape), each(bias))


class Unknown(NamedTuple):
    """A rate that these data do not tell, and the measurement that would."""

    name: str
    meaning: str
    data_share: float
    supplied_by: str


def unknowns(fit: Fit) -> list[Unknown]:
    """Rates that rest on their prior more than on the data, least known first."""
    found = [
        Unknown(
            entry.name, PARAMETERS[entry.name].meaning, float(share), SUPPLIES.get(entry.name, "")
        )
        for entry, share in zip(fit.priors, fit.data_share, strict=True)
        if share < IDENTIFIED_SHARE
    ]
    return sorted(found, key=lambda one: one.data_share)


def beyond_belief(fit: Fit) -> list[str]:
    """Rates that the data push to the edge of what hardware can do."""
    return [
        entry.name for entry, bound in zip(fit.priors, fit.at_bound, strict=True) if bool(bound)
    ]


class Confusion(NamedTuple):
    """Two rates of which the data tell a combination better than either."""

    first: str
    second: str
    correlation: float


def confusions(problem: Problem, fit: Fit, most: int = 3) -> list[Confusion]:
    """Pairs of rates that the data partly identify and cannot tell apart, worst first."""
    measured = np.isfinite(problem.observed)
    rows = log_jacobian(problem, fit.priors, fit.point)[measured] / WEIGHTED_SPREAD
    precision = rows.T @ rows + np.diag([1.0 / entry.width**2 for entry in fit.priors])
    covariance = np.linalg.inv(precision)
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    names = [entry.name for entry in fit.priors]
    pairs = [
        Confusion(names[i], names[j], float(correlation[i, j]))
        for i in range(len(names))
        for j in range(i)
        if abs(correlation[i, j]) >= CONFUSED
    ]
    return sorted(pairs, key=lambda pair: -abs(pair.correlation))[:most]


def reasons(left_out: Iterable[LeftOut]) -> list[tuple[str, int]]:
    """Why rows were left out, an example of each kind of reason, most frequent first."""
    counted: Counter[str] = Counter()
    example: dict[str, str] = {}
    for entry in left_out:
        kind = _WITH_DIGITS.sub("…", entry.reason)
        counted[kind] += 1
        example.setdefault(kind, entry.reason)
    return [(example[kind], count) for kind, count in counted.most_common()]


_WITH_DIGITS = re.compile(r"(\S*\d\S*\s*)+")
"""Sizes and names with sizes in them, which alone do not make another kind of reason."""
