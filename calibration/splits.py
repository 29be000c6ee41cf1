"""The RTX 3090 protocol: fit on a random half of the prompts, score on the rest, thirty times.

One card: all rates from half of its rows. Two cards: the rates of one card are frozen, and only
what one card cannot show, the links and the host that has to feed two, comes from half of the rows
of two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.rates import Rates
from calibration.fit import fit
from calibration.holdout import mape
from calibration.parameters import Prior, selected
from calibration.problem import METRICS, Problem, predict, subset
from calibration.relevant import relevant

Array = NDArray[np.float64]

KEY = ("RTX3090", "unstated")
SOURCE = "jadewang_3090"
SEEDS = 30
LINK_RATES = ("collective_s", "link_eff", "host_launch_s")


class Half(NamedTuple):
    """Mean over the seeds of the MAPE on the halves that were not fitted; fractions."""

    rows: int
    seeds: int
    errors: dict[str, float]
    """MAPE by metric."""
    worst: dict[str, float]
    """The unluckiest seed's."""
    predicted: Array
    """Mean of each row's predictions while it was held out, shape (rows, 3)."""


def halves(
    problem: Problem, priors: Sequence[Prior], base: Rates | None = None, seeds: int = SEEDS
) -> Half:
    """Fit the rates that `priors` name on random halves; the others stay as in `base`."""
    start = base or Rates.default()
    errors = np.full((seeds, len(METRICS)), np.nan)
    total, count = np.zeros_like(problem.observed), np.zeros(len(problem.cases))
    for seed in range(seeds):
        known = chosen_half(len(problem.cases), seed)
        found = fit(problem, priors, start, rows=known)
        predicted = predict(problem, found.rates)
        for index in range(len(METRICS)):
            errors[seed, index] = mape(predicted[~known, index], problem.observed[~known, index])
        total[~known] += predicted[~known]
        count[~known] += 1
    with np.errstate(invalid="ignore"):
        mean = total / count[:, None]
    return Half(
        len(problem.cases),
        seeds,
        dict(zip(METRICS, errors.mean(axis=0).tolist(), strict=True)),
        dict(zip(METRICS, errors.max(axis=0).tolist(), strict=True)),
        mean,
    )


def chosen_half(count: int, seed: int) -> NDArray[np.bool_]:
    """A random half of `count` rows."""
    known = np.zeros(count, dtype=bool)
    known[np.random.default_rng(seed).permutation(count)[: count // 2]] = True
    return known


class Protocol(NamedTuple):
    """Both halves of the protocol and the rows they were scored on."""

    one_card: Half
    two_cards: Half
    problems: tuple[Problem, Problem]


def protocol(problem: Problem, seeds: int = SEEDS) -> Protocol:
    """Run it on the rows of the RTX 3090; priors are the generic ones, no other system's."""
    ours = subset(problem, lambda case: case.campaign == SOURCE)
    one = subset(ours, lambda case: case.plan.tp == 1)
    two = subset(ours, lambda case: case.plan.tp == 2)
    priors = selected(relevant(one))
    alone = halves(one, priors, seeds=seeds)
    frozen = fit(one, priors, Rates.default()).rates
    together = halves(two, selected(LINK_RATES), frozen, seeds)
    return Protocol(alone, together, (one, two))
