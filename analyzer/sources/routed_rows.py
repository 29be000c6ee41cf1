"""What a benchmark's routing of tokens to experts means: how many experts were touched.

Balanced routing deals pairs of token and expert out in turn. A power law draws each expert's
popularity from a bounded Pareto distribution and rounds its share of the pairs, so the unpopular
get none.
"""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from analyzer.timing.kernels.common import Array

_POWER_LAW = re.compile(r"power_law_(\d+(?:\.\d+)?)")
_FEW, _MANY = (0.01, 2.0), (1.0, 0.8)
"""Bounds of popularity: with fewer pairs than experts, and with more; the last is a share of the
tokens."""


def touched_of_rows(
    routing: NDArray[np.str_], tokens: Array, experts: Array, top_k: Array
) -> Array:
    """Experts that got a token, of all of them, in each row."""
    touched = np.minimum(experts, np.maximum(tokens * top_k, 1.0))
    for name in np.unique(routing):
        law = _POWER_LAW.fullmatch(str(name))
        if law is None:
            continue
        for row in np.flatnonzero(routing == name):
            touched[row] = _popular(tokens[row], experts[row], top_k[row], float(law.group(1)))
    return touched


def _popular(tokens: float, experts: float, top_k: float, exponent: float) -> float:
    """Experts whose share of the pairs rounds to one or more, popularity at its quantiles."""
    pairs = tokens * top_k
    low, high = (_MANY[0], max(_MANY[1] * tokens, 1.001)) if pairs > experts else _FEW
    at = (np.arange(int(experts)) + 0.5) / experts
    power = 1.0 - exponent
    popularity = (low**power + at * (high**power - low**power)) ** (1.0 / power)
    counts = np.round(popularity / popularity.sum() * pairs)
    found = max(float(np.count_nonzero(counts)), min(top_k, experts))
    return min(found, pairs)
