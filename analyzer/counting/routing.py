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
from analyzer.counting.routing_trace import Routing
from analyzer.errors import ConfigError
from analyzer.optable import Number

Array = NDArray[np.float64]


class Load(NamedTuple):
    """What the busiest rank has to do."""

    distinct: Number
    """Expected number of its experts that are touched."""
    rows: Number
    """Expected number of (token, expert) pairs that it serves."""


def load(
    experts: int,
    top_k: int,
    tokens: Number,
    groups: Number,
    skew: Number,
    traced: Routing | None = None,
) -> Load:
    """Load of the busiest of `groups` ranks that `experts` experts are dealt to."""
    if traced is not None:
        if traced.experts != experts:
            raise ConfigError(
                f"the routing trace has {traced.experts} experts, the model's layers {experts}"
            )
        return _traced(traced, top_k, tokens, groups)
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


def busiest_over_mean(
    experts: int, top_k: int, groups: Number, skew: Number, traced: Routing | None = None
) -> Number:
    """Tokens that the busiest of `groups` ranks gets over what even routing would send it.

    A token is sent once to a rank, however many of its experts live there.
    """
    if traced is None and not possible(skew != 0):
        return 1.0
    cast: list[Any] = [np.asarray(value, dtype=np.float64) for value in (groups, skew)]
    dealt, skews = np.broadcast_arrays(*cast)
    ratio = np.ones(dealt.shape)
    even = np.full(experts, top_k / experts)
    for one_deal, one_skew in {*zip(dealt.flat, skews.flat, strict=True)}:
        here = (dealt == one_deal) & (skews == one_skew)
        count = max(round(float(one_deal)), 1)
        visited = _visited(even[::count])
        if traced is None:
            busy = _visited(popularity(experts, top_k, float(one_skew))[::count])
        else:
            busiest = [max(map(_visited, _blocks(p, count))) for p in traced.chances(top_k)]
            busy = sum(busiest) / len(busiest)
        ratio[here] = busy / visited
    return ratio if ratio.shape else float(ratio)


def _visited(chances: Array) -> float:
    """Probability that a token visits at least one of these experts."""
    return float(1.0 - np.prod(1.0 - chances))


def _blocks(chances: Array, groups: int) -> list[Array]:
    """The experts of each rank, consecutive numbers together, as engines place them."""
    held = -(-len(chances) // groups)
    return [chances[start : start + held] for start in range(0, len(chances), held)]


def _traced(traced: Routing, top_k: int, tokens: Number, groups: Number) -> Load:
    """Mean over the traced layers of what each layer's busiest rank has to do."""
    cast: list[Any] = [np.asarray(value, dtype=np.float64) for value in (tokens, groups)]
    many, dealt = np.broadcast_arrays(*cast)
    distinct, rows = np.zeros(many.shape), np.zeros(many.shape)
    layers = traced.chances(top_k)
    for one_deal in {*dealt.flat}:
        here = dealt == one_deal
        for layer in layers:
            busiest = max(_blocks(layer, max(round(float(one_deal)), 1)), key=np.sum)
            distinct[here] += _touched(busiest, many[here]) / len(layers)
            rows[here] += many[here] * busiest.sum() / len(layers)
    if not many.shape:
        return Load(float(distinct), float(rows))
    return Load(distinct, rows)


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
