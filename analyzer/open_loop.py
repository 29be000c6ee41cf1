"""Requests that do not wait for each other's ends: at a rate, all at once, or without end.

Closed forms on what one replica can do (`Replica`); they know no model. A prompt takes `work_s` of
the engine, an answer of O tokens O shares of a decode step, and as many requests leave as come:
that fixes how many run. What a request waits for is the step under way, the prompts before it and,
where the cache or the scheduler lets no more in, a place. `tests/serving` holds these forms against
the event-driven simulator.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class Replica(NamedTuple):
    """One replica under load: seconds and sequences, shape (*scenarios)."""

    alone_s: Any
    """Time to first token of a request that finds the engine idle."""
    work_s: Any
    """What one more prompt adds to the steps while many are worked off."""
    prompt_steps: Any
    """Steps' worth of prompt tokens in one prompt: below 1 where a step takes several prompts."""
    most: Any
    """Sequences that run at once at most."""
    sizes: Array
    """Numbers of running sequences, rising along a first axis, shape (sizes, *scenarios)."""
    steps_s: Array
    """A decode step of so many."""

    def step_s(self, running: Any) -> Array:
        """A decode step of any number of running sequences."""
        return _between(running, self.sizes, self.steps_s)


class Flow(NamedTuple):
    """What requests see on average, and what leaves a replica."""

    ttft_s: Array
    tpot_s: Array
    requests_per_s: Array
    """Of one replica."""
    running: Array
    queued_s: Array
    """Part of the time to first token that is spent waiting for a place."""


def most_per_s(replica: Replica, output_tokens: Any) -> Array:
    """Requests a second that one replica can serve for ever."""
    per_answer_s = output_tokens * replica.step_s(replica.most) / replica.most
    return np.asarray(1.0 / (replica.work_s + per_answer_s))


def saturated(replica: Replica, output_tokens: Any) -> Flow:
    """Requests wait at all times: no time to first token would mean anything."""
    leaving = most_per_s(replica, output_tokens)
    tpot_s = replica.most / (leaving * output_tokens)
    nothing = np.full(np.shape(leaving), np.nan)
    return Flow(nothing, np.asarray(tpot_s), leaving, np.asarray(replica.most), nothing)


def all_at_once(replica: Replica, output_tokens: Any, requests: Any) -> Flow:
    """`requests` per replica come together and are worked off in waves of as many as can run."""
    together = np.minimum(requests, replica.most)
    step_s = replica.step_s(together)
    fill_s = replica.work_s + replica.prompt_steps * replica.step_s((together + 1.0) / 2.0)
    wave_s = together * replica.work_s + output_tokens * step_s
    waves = requests / together
    whole = np.floor(waves + 1e-9)
    rest = np.maximum(waves - whole, 0.0)
    inside = (whole * together**2 + (rest * together) ** 2) / (2.0 * requests)
    # prompts that share a step have their first token at its end
    shared = np.minimum(np.maximum(1.0 / replica.prompt_steps, 1.0), together)
    inside = inside + shared / 2.0 - 1.0
    queued_s = places(waves) * wave_s
    ttft_s = replica.alone_s + np.maximum(inside, 0.0) * fill_s + queued_s
    last_step_s = replica.step_s(np.maximum(rest * together, 1.0))
    beside = (together - 1.0) * (1.0 - 1.0 / (2.0 * np.maximum(waves, 1.0)))
    mean_step_s = (whole * step_s + rest * last_step_s) / waves
    tpot_s = mean_step_s + replica.work_s * beside / output_tokens
    last_s = output_tokens * last_step_s * (rest > 0.0)
    total_s = requests * replica.work_s + whole * output_tokens * step_s + last_s
    return Flow(ttft_s, tpot_s, requests / total_s, together, queued_s)


def poisson(
    replica: Replica,
    output_tokens: Any,
    rate_per_s: Any,
    requests: Any = np.nan,
    spread: float = 1.0,
) -> Flow:
    """`rate_per_s` requests a second reach one replica, each independent of the others.

    `spread` is the squared variation of the gaps between them: 0 where they come evenly. Beyond
    what the replica can serve the queue grows for as long as requests come: with a known number of
    `requests` that has a mean, without it the time to first token is NaN.
    """
    limit = most_per_s(replica, output_tokens)
    served = np.minimum(rate_per_s, limit)
    use = np.minimum(served * replica.work_s, BUSIEST)
    pace = replica.sizes / replica.steps_s
    wanted = served * output_tokens / (1.0 - use)
    running = np.minimum(_between(wanted, np.maximum.accumulate(pace), replica.sizes), replica.most)
    running = np.where(wanted < pace[0], wanted / pace[0], running)
    step_s = replica.step_s(np.maximum(running, 1.0))
    # whoever starts to decode leaves prompts behind that came while its own was worked off
    behind = use + spread * use**2 / (2.0 * (1.0 - use))
    tpot_s = (step_s + behind * replica.work_s / output_tokens) / (1.0 - use)
    tpot_s = np.minimum(tpot_s, replica.most / (limit * output_tokens))
    turn_s = _turn_s(replica, served, use, step_s, running, spread)
    held_s = output_tokens * tpot_s
    queued_s = _place_s(replica.most, held_s, rate_per_s, limit, requests, spread)
    return Flow(replica.alone_s + turn_s + queued_s, tpot_s, served, running, queued_s)


BUSIEST = 0.98
"""Share of its time that a replica can spend on prompts before waits are without bound."""


def _turn_s(
    replica: Replica, rate_per_s: Any, use: Any, step_s: Any, running: Any, spread: float
) -> Any:
    """What a prompt that has a place waits for: the step under way, prompts before it or beside
    it in its own step, and the sequences that decode in that step."""
    mixed_s = step_s + replica.work_s
    mixed = np.minimum(rate_per_s * mixed_s, 1.0)
    left_s = (1.0 - np.exp(-running)) * ((1.0 - mixed) * step_s + mixed * mixed_s) / 2.0
    beside = 2.0 - np.minimum(replica.prompt_steps, 1.0)
    others_s = spread * beside * use / (1.0 - use) * left_s
    return left_s + others_s + np.maximum(step_s - replica.steps_s[0], 0.0)


def _place_s(
    most: Any, held_s: Any, rate_per_s: Any, limit: Any, requests: Any, spread: float
) -> Any:
    """Waiting for one of the places in the running batch.

    Steadily it is Sakasegawa's form for many servers; a known number of requests ends before a
    nearly full replica has settled, and fills a replica that is too slow in waves.
    """
    load = rate_per_s / limit
    below = np.minimum(load, 0.999)
    crowded = below ** (np.sqrt(2.0 * (most + 1.0)) - 1.0) / (1.0 - below)
    steady_s = spread / 2.0 * held_s / most * crowded
    endless = np.where(load < 1.0, steady_s, np.nan)
    unsettled_s = spread * np.sqrt(requests) / (4.0 * rate_per_s)
    late_s = places(requests / most) * most * np.maximum(1.0 / limit - 1.0 / rate_per_s, 0.0)
    known = np.isfinite(np.broadcast_to(requests, np.shape(load)))
    return np.where(known, np.minimum(steady_s, unsettled_s) + late_s, endless)


def places(waves: Any) -> Any:
    """Mean number of whole waves before one's own, where requests fill so many waves."""
    whole = np.floor(waves + 1e-9)
    rest = np.maximum(waves - whole, 0.0)
    return (whole * (whole - 1.0) / 2.0 + whole * rest) / np.maximum(waves, 1e-9)


def _between(x: Any, xs: Array, ys: Array) -> Array:
    """Piecewise linear interpolation along the first axis, flat beyond its ends."""
    x = np.asarray(x, dtype=np.float64)
    at = np.clip((xs <= x).sum(axis=0), 1, len(xs) - 1)[None]
    x0, x1 = (np.take_along_axis(xs, at - k, 0)[0] for k in (1, 0))
    y0, y1 = (np.take_along_axis(ys, at - k, 0)[0] for k in (1, 0))
    span = np.where(x1 > x0, x1 - x0, 1.0)
    return np.asarray(y0 + np.clip((x - x0) / span, 0.0, 1.0) * (y1 - y0))
