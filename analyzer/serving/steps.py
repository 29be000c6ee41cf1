"""Step times from the calibrated analyzer: the adapter between counting, timing and the simulator.

Not imported by the package itself, so that the simulator stays free of models and machines. A step
is counted and timed exactly like a static one; tables are made once, and the simulator looks up.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.counting import count
from analyzer.counting.alike import of_stages
from analyzer.counting.cache import cache_B
from analyzer.counting.context import Segment, Step
from analyzer.engines import engine as engine_class
from analyzer.errors import CapacityError
from analyzer.phases import Laid, plans_ahead
from analyzer.plan import stages
from analyzer.pools import cache_room
from analyzer.serving.options import EngineOptions
from analyzer.serving.tables import Around, StepArrays, TableTimer
from analyzer.timing.machine import Machine
from analyzer.timing.phase import issuing
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import StepTime, time_step
from analyzer.workload import Workload

Floats = NDArray[np.float64]


def step_timer(
    laid: Laid, on: Machine, rates: Rates, engine: EngineOptions, graph_tokens: int = 0
) -> TableTimer:
    """Tables of one replica's step times, as wide as the engine's limits ask for.

    `laid` is one replica: its tensor, expert and pipeline parallelism count, `plan.dp` does not
    (replicas are the simulator's). The host issues every kernel of steps with prompts that have
    more than `graph_tokens` tokens; others are replayed.
    """
    exact = ExactSteps(laid, on, rates, graph_tokens)
    return TableTimer.build(
        exact.device_s,
        around=exact.around(),
        max_batch=engine.max_sequences,
        max_tokens=engine.max_batched_tokens,
        max_context=engine.max_model_tokens,
        queries=1 + (engine.speculation.tokens if engine.speculation else 0),
    )


def slowest_share(laid: Laid, on: Machine, rates: Rates) -> float:
    """Share of a step's time that its slowest stage takes: of a prompt of a thousand tokens."""
    one, none = np.array([1000.0]), np.zeros(1)
    prompt = StepArrays(one, one * (one + 1.0) / 2.0, one, none, none, none)
    return max(ExactSteps(laid, on, rates).stage_shares(prompt))


def kv_blocks(laid: Laid, memory_B: float, share: float, engine: EngineOptions) -> int:
    """KV blocks that one replica has beside weights and activations, as an engine finds out.

    `memory_B` is one device's memory and `share` what of it the engine uses. An engine's own count,
    read from its log, is always better. Raises CapacityError if not even one block is left.
    """
    tokens = float(engine.max_batched_tokens)
    kind = msgspec.structs.replace(
        engine_class(laid.plan.engine),
        step_tokens=tokens,
        max_sequences=float(engine.max_sequences),
        splits_prompts=True,
    )
    lone = Workload(batch=1.0, input_tokens=tokens, output_tokens=1.0)
    if float(cache_B(laid.model, laid.layout, tokens).kv_B) == 0.0:
        raise CapacityError(f"{laid.model.name} keeps no cache that grows; give kv_blocks")
    room = cache_room(laid, lone, memory_B * share, kind)
    blocks = int(room.tokens // engine.block_tokens)
    if blocks < 1:
        raise CapacityError(
            f"{laid.model.name} leaves no memory for a KV cache: {memory_B * share / 1e9:.1f} GB "
            f"hold the weights and activations only with {-room.bytes / 1e9:.1f} GB more; raise tp"
        )
    return blocks


class ExactSteps:
    """Seconds of steps, counted and timed operator by operator, through all pipeline stages."""

    def __init__(self, laid: Laid, on: Machine, rates: Rates, graph_tokens: int = 0) -> None:
        self._laid = laid
        self._on = on
        self._rates = rates
        self._graph_tokens = graph_tokens
        self._cuts = stages(laid.model, laid.plan.pp)

    def __call__(self, steps: StepArrays) -> Floats:
        """Seconds of each step; all steps prefill, or all decode, or all do both.

        Of data-parallel groups that share experts, the others are taken to do the same meanwhile.
        """
        tokens = steps.prefill_tokens + steps.decode_tokens
        prompts = steps.prefill_tokens > 0
        issued = np.where(prompts & (tokens > self._graph_tokens), *self._floors_s())
        sequences = steps.decode_batch + prompts
        host_s = self._rates.step_s + self._rates.sequence_s * sequences
        device_s = self.device_s(steps)
        if plans_ahead(self._laid.plan):
            return np.asarray(np.maximum(device_s, issued + host_s))
        return np.asarray(np.maximum(device_s, issued) + host_s)

    def device_s(self, steps: StepArrays) -> Floats:
        """The same without the host: what the devices and their links take."""
        step, tokens = self._step(steps)
        tables = self._tables(step)
        stage_s = [time_step(table, self._on, self._rates).device_s for table in tables]
        total_s = np.add.reduce([np.asarray(each) for each in stage_s])
        total_s = np.maximum(total_s, self._fetch_s(tables))
        plan, model = self._laid.plan, self._laid.model
        if plan.pp > 1:
            hop_B = tokens * model.hidden * self._laid.layout.act_B
            total_s = total_s + (plan.pp - 1) * self._on.hop_s(hop_B, self._laid.layout.tp)
        return np.asarray(np.broadcast_to(total_s, tokens.shape), dtype=np.float64)

    def around(self) -> Around:
        """What the host adds to device times."""
        prompt_s, usual_s = self._floors_s()
        rates = self._rates
        return Around(
            step_s=float(rates.step_s),
            sequence_s=float(rates.sequence_s),
            floor_s=usual_s,
            prompt_floor_s=prompt_s,
            graph_tokens=self._graph_tokens,
            hidden=plans_ahead(self._laid.plan),
        )

    def stage_shares(self, steps: StepArrays) -> list[float]:
        """What each stage takes of one step's device time."""
        step, _ = self._step(steps)
        stage_s = [float(np.max(timed.device_s)) for timed in self._timed(step)]
        return [each / sum(stage_s) for each in stage_s]

    def _floors_s(self) -> tuple[float, float]:
        """What the host needs to issue a step: with every kernel by itself, and as usual."""
        one = np.ones(1)
        step, _ = self._step(StepArrays(one, one, one, 0 * one, 0 * one, 0 * one))
        launches = 0.0
        for table in self._tables(step):
            parts = getattr(table, "blocks", ()) or (table,)
            for part in parts:
                counted = part.columns["launches"] * part.columns["repeat"]
                launches += float(np.max(part.reduce(counted)))
        rates = self._rates
        return (
            launches * float(issuing(rates).host_launch_s),
            launches * float(rates.host_launch_s),
        )

    def _step(self, steps: StepArrays) -> tuple[Step, Floats]:
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
        return Step(tuple(segments)), prompts + steps.decode_tokens

    def _tables(self, step: Step) -> list[Any]:
        """The step's operators, by pipeline stage."""
        last = len(self._cuts) - 1

        def stage(index: int, cut: slice) -> Any:
            return count(
                self._laid.model,
                step,
                self._laid.layout,
                cut if last else None,
                with_embedding=index == 0,
                with_head=index == last,
            )

        return list(of_stages(self._laid.model, self._cuts, stage))

    def _timed(self, step: Step) -> list[StepTime]:
        return [time_step(table, self._on, self._rates) for table in self._tables(step)]

    def _fetch_s(self, tables: list[Any]) -> Any:
        """Seconds of the host's link for the weights that a step reads of those kept there."""
        offload = self._laid.plan.offload
        if offload is None:
            return 0.0
        read_B = 0.0
        for table in tables:
            for part in getattr(table, "blocks", ()) or (table,):
                read_B = read_B + part.reduce(part.columns["weight_B"] * part.columns["repeat"])
        read_B = read_B / self._laid.plan.pp
        return read_B * offload.weights_host / (self._on.host_Bps * self._rates.host_link_eff)
