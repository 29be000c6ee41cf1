"""Step times from the calibrated analyzer: the adapter between counting, timing and the simulator.

Not imported by the package itself, so that the simulator stays free of models and machines. A step
is counted and timed exactly like a static one; tables are made once, and the simulator looks up.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from analyzer.counting import count
from analyzer.counting.context import Segment, Step
from analyzer.counting.footprint import logits_B
from analyzer.errors import CapacityError, ConfigError
from analyzer.memory import memory
from analyzer.phases import Laid
from analyzer.serving.options import EngineOptions
from analyzer.serving.tables import StepArrays, TableTimer
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import time_step
from analyzer.workload import Workload

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


def kv_blocks(laid: Laid, memory_B: float, share: float, engine: EngineOptions) -> int:
    """KV blocks that one replica has beside weights and activations, as an engine finds out.

    `memory_B` is one device's memory and `share` what of it the engine uses. An engine's own count,
    read from its log, is always better. Raises CapacityError if not even one block is left.
    """
    tokens = float(engine.max_batched_tokens)
    groups = laid.plan.attention_dp * laid.plan.dp * 1.0
    used = memory(laid, Workload(batch=groups, input_tokens=tokens, output_tokens=1.0))
    token_B = float(used.kv_B) / (tokens + 1.0)
    if token_B == 0.0:
        raise CapacityError(f"{laid.model.name} keeps no cache that grows; give kv_blocks")
    # Engines try out their largest step first: all its tokens, and a logit row per sequence.
    rows = Step((Segment(float(engine.max_sequences), 1.0, 0.0),))
    sampled_B = float(logits_B(laid.model, rows, laid.layout))
    held_B = float(used.total_B) - float(used.kv_B) - float(used.logits_B) + sampled_B
    free_B = memory_B * share - held_B
    blocks = int(free_B // (token_B * engine.block_tokens))
    if blocks < 1:
        raise CapacityError(
            f"{laid.model.name} leaves no memory for a KV cache: {memory_B * share / 1e9:.1f} GB "
            f"hold the weights and activations only with {-free_B / 1e9:.1f} GB more; raise tp"
        )
    return blocks


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
        """Seconds of each step; all steps prefill, or all decode, or all do both.

        Of data-parallel groups that share experts, the others are taken to do the same meanwhile.
        """
        groups = float(self._laid.plan.attention_dp)
        segments = []
        prompts = steps.prefill_tokens
        if np.any(prompts > 0):
            past = steps.prefill_context - prompts
            # Pairs among the new tokens: what is left of all pairs after those with the past.
            within = np.maximum(steps.prefill_pairs - past * prompts, prompts)
            alike = np.full_like(prompts, groups)
            segments.append(Segment(alike, prompts, past, pairs_within=within))
        batch = steps.decode_batch
        if np.any(batch > 0):
            queries = steps.decode_tokens / batch
            past = np.maximum(steps.decode_context / batch - queries, 0.0)
            segments.append(Segment(batch * groups, queries, past, logits=queries))
        table = count(self._laid.model, Step(tuple(segments)), self._laid.layout)
        sequences = batch + (prompts > 0)
        timed = time_step(table, self._on, self._rates, sequences)
        return np.asarray(np.broadcast_to(timed.total_s, prompts.shape), dtype=np.float64)
