"""Rows out of everything that was scored: by metric, by kind of load, by what holds them out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from calibration.problem import METRICS
from calibration.scored import OURS_OUT, Scored
from calibration.tally import Tally, tally

Array = NDArray[np.float64]
Mask = Callable[[Scored], NDArray[np.bool_]]

NAMES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}
"""Metrics as they are printed."""
LEAST_MODELS = 4
"""Groups with fewer held-out models do not count in the headline."""


class Rows(NamedTuple):
    """Measured and predicted values of one metric."""

    predicted: Array
    measured: Array

    @property
    def tally(self) -> Tally:
        """Their errors."""
        return tally(self.predicted, self.measured)


def fixed(one: Scored) -> NDArray[np.bool_]:
    """Fixed batches."""
    return ~one.looped


def served(one: Scored) -> NDArray[np.bool_]:
    """Closed-loop serving."""
    return one.looped & ~one.queued


def queued(one: Scored) -> NDArray[np.bool_]:
    """Offline throughput, as the time per token of an engine that is always full."""
    return one.queued


def everything(one: Scored) -> NDArray[np.bool_]:
    """All rows."""
    return np.ones(len(one.models), dtype=bool)


LOADS: dict[str, Mask] = {"fixed batch": fixed, "served": served, "offline": queued}


def rows(scored: Iterable[Scored], way: str, metric: str, mask: Mask = everything) -> Rows:
    """One metric by one way, over all groups."""
    index = METRICS.index(metric)
    predicted, measured = [np.empty(0)], [np.empty(0)]
    for one in scored:
        if way in one.predicted:
            chosen = mask(one)
            predicted.append(one.predicted[way][chosen, index])
            measured.append(one.measured[chosen, index])
    return Rows(np.concatenate(predicted), np.concatenate(measured))


def held_out(mask: Mask) -> Mask:
    """Of these rows, those that our held-out prediction answers."""

    def chosen(one: Scored) -> NDArray[np.bool_]:
        answered = np.asarray(np.isfinite(one.predicted[OURS_OUT]).any(axis=1), dtype=bool)
        both: NDArray[np.bool_] = mask(one) & answered
        return both

    return chosen


def models_of(one: Scored, metric: str, mask: Mask = everything) -> int:
    """Held-out models of which the group has this metric."""
    index = METRICS.index(metric)
    both = np.isfinite(one.predicted[OURS_OUT][:, index]) & np.isfinite(one.measured[:, index])
    return len(set(one.models[both & mask(one)].tolist()))


def title(one: Scored) -> str:
    """System and engine."""
    return f"{one.key[0]} · {one.key[1]}"
