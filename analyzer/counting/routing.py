"""Where routed tokens fall: how many experts a step touches and how much the busiest rank gets.

A token visits `top_k` different experts. Expert e is among them with probability p_e, and the p_e
add up to top_k, so T tokens touch the sum of 1-(1-p_e)^T different experts. Uniform routing has
p_e = top_k/experts. A skew s > 0 makes popularity a power law of the expert's rank e = 1, 2, ...:
p_e = min(1, c·e^-s), with c such that they add up to top_k. Experts are dealt to ranks in turn,
most popular first: the first rank is the busiest, and holds one more where the deal is uneven.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.counting.numeric import ceil, larger, possible
from analyzer.optable import Number

Array = NDArray[np.float64]


class Load(NamedTuple):
    """What the busiest rank has to do."""

    distinct: Number
    """Expected number of its experts that are touched."""
    rows: Number
    """Expected number of (token, expert) pairs that it serves."""


def load(experts: int, top_k: int, tokens: Number, groups: Number, skew: Number) -> Load:
    """Load of the busiest of `groups` ranks that `experts` experts are dealt to."""
    if possible(skew != 0):
        return _skewed(experts, top_k, tokens, groups, skew)
    share = top_k / experts
    held = ceil(experts / groups)
    return Load(held * (1.0 - (1.0 - share) ** tokens), tokens * share * held)


def distinct_ranks(experts: int, top_k: int, groups: Number) -> Number:
    """Expected number of ranks that the experts of one token live on (uniform routing).

    Exact: all but C(experts - held, top_k)/C(experts, top_k) of the choices touch a given rank.
    """
    held = experts / groups
    missed: Number = 1.0
    for drawn in range(top_k):
        missed = missed * larger(1.0 - held / (experts - drawn), 0.0)
    return groups * (1.0 - missed)


@lru_cache(maxsize=256)
def popularity(experts: int, top_k: int, skew: float) -> Array:
    """Probability that a token visits each expert, most popular first."""
    weights = np.arange(1, experts + 1, dtype=np.float64) ** -skew
    remaining = np.cumsum(weights[::-1])[::-1]  # weight of this expert and all less popular ones
    certain = np.arange(experts)
    scale = (top_k - certain[:top_k]) / remaining[:top_k]
    fits = scale * weights[:top_k] <= 1.0
    first = int(np.argmax(fits)) if fits.any() else top_k
    chances = np.ones(experts)
    if first < top_k:
        chances[first:] = np.minimum(scale[first] * weights[first:], 1.0)
    else:
        chances[top_k:] = 0.0
    chances.flags.writeable = False
    return chances


def _skewed(experts: int, top_k: int, tokens: Number, groups: Number, skew: Number) -> Load:
    cast: list[Any] = [np.asarray(value, dtype=np.float64) for value in (tokens, groups, skew)]
    many, dealt, skews = np.broadcast_arrays(*cast)
    distinct, rows = np.empty(many.shape), np.empty(many.shape)
    for one_skew, one_deal in {*zip(skews.flat, dealt.flat, strict=True)}:
        here = (skews == one_skew) & (dealt == one_deal)
        chances = popularity(experts, top_k, float(one_skew))[:: max(round(one_deal), 1)]
        distinct[here] = _touched(chances, many[here])
        rows[here] = many[here] * chances.sum()
    if not many.shape:
        return Load(float(distinct), float(rows))
    return Load(distinct, rows)


def _touched(chances: Array, tokens: Array) -> Array:
    """Expected number of touched experts; like numbers of tokens are worked out once."""
    numbers, position = np.unique(tokens, return_inverse=True)
    touched = np.zeros(numbers.shape)
    for chance in chances:
        touched += 1.0 - (1.0 - chance) ** numbers
    return touched[position.reshape(tokens.shape)]
