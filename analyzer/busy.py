"""A model on a machine as one replica under load: what `open_loop` needs to know of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.engines import EngineClass, told
from analyzer.memory import capacity
from analyzer.open_loop import Replica
from analyzer.phases import Laid, count_decode, count_prefill
from analyzer.steady import crowd_of
from analyzer.timing.machine import Machine
from analyzer.timing.phase import issuing, time_phase, time_prefill
from analyzer.timing.rates import Rates
from analyzer.workload import Workload

Array = NDArray[np.float64]

SIZES = 12
"""Numbers of running sequences at which a decode step is timed; others lie between."""


class Room(NamedTuple):
    """How many sequences one replica runs, and where not even one fits."""

    most: Array
    impossible: NDArray[np.bool_]


def room(laid: Laid, load: Workload, on: Machine, kind: EngineClass, growth: float) -> Room:
    """Sequences of `load` that one replica can run at once; `growth` as in `memory.capacity`."""
    fits = capacity(laid, load, on.memory_B * kind.memory_share, growth, kind) / laid.plan.dp
    shape = np.shape(load.input_tokens)
    most = np.maximum(np.floor(np.minimum(fits, kind.max_sequences)), 1.0)
    return Room(np.broadcast_to(most, shape), np.broadcast_to(fits < 1.0, shape))


def replica(
    laid: Laid, load: Workload, on: Machine, rates: Rates, most: Array, kind: EngineClass
) -> Replica:
    """What one replica does to requests of the lengths of `load`, up to `most` at once."""
    copies = laid.plan.dp
    fresh = load.input_tokens - load.cached_tokens
    kind = told(kind, laid.plan)
    crowd = crowd_of(fresh, kind)
    prompts = issuing(rates)
    first = time_prefill(count_prefill(laid, _of(load, copies * 1.0)), on, prompts)
    together = time_phase(count_prefill(laid, _of(load, crowd * copies)), on, prompts)
    rising = np.arange(SIZES).reshape(-1, *(1,) * np.ndim(most)) / (SIZES - 1.0)
    sizes = np.asarray(most, dtype=np.float64) ** rising
    later = time_phase(count_decode(laid, _of(load, sizes * copies)), on, rates)
    return Replica(
        alone_s=first.total_s + rates.token_s * load.input_tokens,
        work_s=rates.interference * together.total_s / crowd,
        prompt_steps=fresh / kind.step_tokens,
        most=most,
        sizes=sizes,
        steps_s=np.broadcast_to(later.total_s, sizes.shape),
    )


def _of(load: Workload, batch: Any) -> Workload:
    return msgspec.structs.replace(load, batch=batch)
