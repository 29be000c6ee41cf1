"""Step times from the calibrated analyzer: the adapter between counting, timing and the simulator.

Not imported by the package itself, so that the simulator stays free of models and machines. A step
is counted and timed exactly like a static one; tables are made once, and the simulator looks up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.counting import count
from analyzer.counting.context import Segment, Step
from analyzer.errors import ConfigError
from analyzer.phases import Laid
from analyzer.serving.options import EngineOptions
from analyzer.serving.tables import StepArrays, TableTimer
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import time_step

Floats = NDArray[np.float64]


def step_timer(laid: Laid, on: Machine, rates: Rates, engine: EngineOptions) -> TableTimer:
    """Tables of one replica's step times, as wide as the engine's limits ask for.

    `laid` is one replica: its tensor and expert parallelism count, `plan.dp` does not (replicas
    are the simulator's). Raises ConfigError for pipeline parallelism, whose steps overlap.
    """
    return TableTimer.build(
        ExactSteps(laid, on, rates),
        max_batch=engine.max_sequences,
        max_tokens=engine.max_batched_tokens,
        max_context=engine.max_model_tokens,
        queries=1 + (engine.speculation.tokens if engine.speculation else 0),
    )


class ExactSteps:
    """Seconds of steps, each counted and timed operator by operator."""

    def __init__(self, laid: Laid, on: Machine, rates: Rates) -> None:
        if laid.plan.pp > 1:
            raise ConfigError(
                f"the simulator does not know pipeline parallelism (pp={laid.plan.pp}); "
                "use tp, or one replica per group of devices"
            )
        self._laid = laid
        self._on = on
        self._rates = rates

    def __call__(self, steps: StepArrays) -> Floats:
        """Seconds of each step; all steps prefill, or all decode, or all do both."""
        segments = []
        prompts = steps.prefill_tokens
        if np.any(prompts > 0):
            past = steps.prefill_context - prompts
            # Pairs among the new tokens: what is left of all pairs after those with the past.
            within = np.maximum(steps.prefill_pairs - past * prompts, prompts)
            segments.append(Segment(np.ones_like(prompts), prompts, past, pairs_within=within))
        batch = steps.decode_batch
        if np.any(batch > 0):
            queries = steps.decode_tokens / batch
            past = np.maximum(steps.decode_context / batch - queries, 0.0)
            segments.append(Segment(batch, queries, past, logits=queries))
        table = count(self._laid.model, Step(tuple(segments)), self._laid.layout)
        sequences = batch + (prompts > 0)
        timed = time_step(table, self._on, self._rates, sequences)
        return np.asarray(np.broadcast_to(timed.total_s, prompts.shape), dtype=np.float64)
