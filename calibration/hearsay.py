"""Rates for which a served group has the word of one model only.

Under a load few models were measured often, and what the form misses of one goes into whatever rate
is free to take it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.model import Model
from calibration.architecture import architecture
from calibration.problem import Problem

Array = NDArray[np.float64]

ALONE, FAR = 0.95, 3.0
"""Share of what the rows say of a rate that one model says; distance from its prior in widths."""


def one_models_word(
    problem: Problem, used: NDArray[np.bool_], slope: Array, distance: Array
) -> NDArray[np.bool_]:
    """Rates of a served group that one of its models alone tells, and most unlikely things of.

    What the form misses of that model would go into them, and other models that need them would
    pay: gpt-oss's 16-bit projections, between experts of 4 bits, put 16-bit products at 7 % of an
    H200's peak. A group of one model has no other to ask: there it is rows that tell a rate less
    than its prior does, and still move it far, that are not believed. Two that had queued put four
    seconds before every first token on a GB200. What is not believed stays at its prior and says
    that nothing identified it. Models of one architecture have one word, under
    however many names. `slope` and `distance` are in widths of the priors.
    """
    looped = all(case.looped for case in problem.cases)
    known: dict[Model, int] = {}
    shapes = {model: architecture(model) for model in {case.model for case in problem.cases}}
    models = np.array(
        [known.setdefault(shapes[case.model], len(known)) for case in problem.cases], dtype=np.intp
    )
    rows = np.broadcast_to(models[:, None], used.shape)[used]
    names = np.unique(rows)
    if not looped or not len(names):
        return np.zeros(len(distance), dtype=bool)
    told = np.array([(slope[rows == name] ** 2).sum(axis=0) for name in names])
    everything = told.sum(axis=0)
    doubtful = everything < 1.0 if len(names) == 1 else told.max(axis=0) > ALONE * everything
    return np.asarray(doubtful & (np.abs(distance) > FAR))
