"""One block of sequences on its way through the schedule: every event becomes jobs on lanes.

Each handler turns one event into timed jobs and says what they must wait for. Nothing here waits
itself; ordering is by tickets, and staging memory is handed round in rings.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from analyzer.offload_counts import BlockPlan, compute_flops, event_bytes
from analyzer.offload_schedule import Event, schedule
from profilers.offload import maths
from profilers.offload.activations import Activations
from profilers.offload.attention import Attention
from profilers.offload.lanes import Job, Lanes, Ticket
from profilers.offload.memory import Memory
from profilers.offload.quant import encode
from profilers.offload.rings import Slot
from profilers.offload.sampling import Sampling, choose, dice
from profilers.offload.spec import ModelSpec
from profilers.offload.state import Flow
from profilers.offload.tables import look_up
from profilers.offload.weights import Chunk, WeightStore

if TYPE_CHECKING:
    import torch

STORES_IN_FLIGHT = 2


@dataclass(frozen=True)
class Request:
    """What to generate for one block: token ids and which of them are real."""

    ids: torch.Tensor
    valid: torch.Tensor
    steps: int
    sampling: Sampling
    stop: tuple[int, ...] = ()
    pad: int = 0


@dataclass
class Progress:
    """Tickets by event, so that later events can wait for earlier ones."""

    done: dict[Event, list[Ticket]] = field(default_factory=dict)

    def of(self, stage: str, i: int, j: int, k: int) -> list[Ticket]:
        """Tickets of an earlier event; none when it had nothing to do."""
        return self.done.get(Event(stage, i, j, k), [])

    def forget(self, step: int) -> None:
        """Drop what no later event can ask for."""
        for event in [event for event in self.done if event.i < step]:
            del self.done[event]


class Block:
    """Runs one block. `serial` waits after every event, which is the schedule without overlap."""

    def __init__(
        self,
        spec: ModelSpec,
        plan: BlockPlan,
        weights: WeightStore,
        memory: Memory,
        lanes: Lanes,
        request: Request,
    ) -> None:
        import torch

        self.spec, self.plan, self.weights, self.memory = spec, plan, weights, memory
        self.lanes, self.request = lanes, request
        self.progress = Progress()
        self.units, self.count = plan.unit_count, len(plan.batches)
        starts = [sum(plan.batches[:k]) for k in range(self.count)]
        self.rows = [slice(a, a + n) for a, n in zip(starts, plan.batches, strict=True)]
        self.tokens = torch.full((plan.rows, request.steps), request.pad, dtype=torch.int64)
        self.finished = torch.zeros(plan.rows, dtype=torch.bool)
        self.lengths = request.valid.sum(1)
        self.attention = Attention(self)
        self.activations = Activations(self)
        self.chunks = [weights.chunks(j, self.count) for j in range(self.units)]
        self.slots: dict[int, Slot] = {}
        self.flows = [Flow() for _ in range(self.count)]
        self.recent: deque[list[Ticket]] = deque([[]] * STORES_IN_FLIGHT, STORES_IN_FLIGHT)
        self._unit_weights: dict[tuple[str, int], torch.Tensor] = {}
        self._issued: list[Ticket] = []
        self.events: list[Event] = []
        self.handlers: dict[str, Callable[[Event], None]] = {
            "load_weight": self._load_weight,
            "load_hidden": self.activations.load_hidden,
            "compute": self._compute,
            "store_hidden": self.activations.store_hidden,
            "load_cache": self.attention.load_cache,
            "store_cache": self.attention.store_cache,
            "attend": self.attention.attend,
        }

    def run(self) -> torch.Tensor:
        """Generate; returns (rows, steps actually run) token ids."""
        steps = self.request.steps
        for event in schedule(steps, self.units, self.count):
            self._issued = []
            self.events.append(event)
            self.handlers[event.stage](event)
            self.progress.done[event] = self._issued
            if not self.plan.policy.overlap:
                for ticket in self._issued:
                    ticket.wait()
            if event.stage == "compute" and self._ends_step(event) and self._may_stop(event.i):
                steps = event.i + 1
                break
        self.lanes.drain()
        return self.tokens[:, :steps]

    def _ends_step(self, event: Event) -> bool:
        return event.j == self.units - 1 and event.k == self.count - 1

    def _may_stop(self, step: int) -> bool:
        """Keep the issuing thread one step ahead at most, none when a stop token may end it."""
        behind = step if self.request.stop else step - 1
        for k in range(self.count):
            for ticket in self.progress.of("compute", behind, self.units - 1, k):
                ticket.wait()
        self.progress.forget(step - 1)
        return bool(self.request.stop) and bool(self.finished.all())

    def submit(
        self,
        stage: str,
        link: str,
        event: Event,
        job: Job,
        after: Iterable[Ticket] = (),
        work: float | None = None,
    ) -> Ticket:
        """Issue a job of an event; its bytes are those that the analyzer counts for it."""
        amount = event_bytes(self.plan, event)[stage, link] if work is None else work
        at = (event.i, event.j, event.k)
        ticket = self.lanes.submit(stage, link, at, amount, job, after)
        self._issued.append(ticket)
        return ticket

    def hand_over(self, *tensors: torch.Tensor) -> None:
        """Tell CUDA's allocator that other streams will use these tensors."""
        self.lanes.share(tensors)

    def valid_rows(self, k: int, device: torch.device) -> torch.Tensor:
        """Which cache positions of a micro-batch hold real tokens (all generated ones do)."""
        return self.memory.valid[device.type][self.rows[k]]

    # Weights

    def _load_weight(self, event: Event) -> None:
        """Bring this micro-batch's part of the next unit's span, chunk by chunk."""
        chunks = self.chunks[event.j]
        first, last = (-(-k * len(chunks) // self.count) for k in (event.k, event.k + 1))
        unit = event.i * self.units + event.j
        if event.k == 0 and chunks:
            self.slots[unit] = self.memory.weight_ring.take()
        for chunk in chunks[first:last]:
            self._load_chunk(event, self.slots[unit], chunk)

    def _load_chunk(self, event: Event, slot: Slot, chunk: Chunk) -> None:
        waits, staging = list(slot.users), None
        if chunk.disk_B:
            staging = self.memory.weight_staging.take()
            source = staging.buffer
            read = self.submit(
                "load_weight",
                "disk_read",
                event,
                lambda: self.weights.read_disk(event.j, chunk, source),
                staging.users,
                chunk.disk_B,
            )
            waits.append(read)
        buffer = staging.buffer if staging else None
        copy = self.submit(
            "load_weight",
            "h2d",
            event,
            lambda: self.weights.copy_chunk(event.j, chunk, slot.buffer, buffer),
            waits,
            chunk.total_B,
        )
        if staging:
            staging.users = [copy]

    def _weights_ready(self, event: Event) -> list[Ticket]:
        return [
            ticket
            for k in range(self.count)
            for ticket in self.progress.of("load_weight", event.i, event.j, k)
        ]

    # Compute

    def _compute(self, event: Event) -> None:
        before, after = self.flows[event.k], Flow()
        waits = [
            *self._weights_ready(event),
            *self.progress.of("load_hidden", *event[1:]),
            *self.recent[0],
        ]
        slot = self.slots.get(event.i * self.units + event.j)
        ticket = self.submit(
            "compute",
            "gpu",
            event,
            lambda: self._forward(event, before, after, slot),
            waits,
            compute_flops(self.plan, event),
        )
        if slot and event.k == self.count - 1:
            slot.users = [ticket]
            del self.slots[event.i * self.units + event.j]
        self.flows[event.k] = after
        if event.j < self.units - 1:
            after.hold()
        if event.j == self.units - 1:
            self.submit("tokens", "d2h", event, lambda: self._collect(event, after), [ticket])

    def _forward(self, event: Event, before: Flow, after: Flow, slot: Slot | None) -> int:
        if event.k == 0:
            self._unit_weights = self.weights.unit(event.j, slot.buffer if slot else None)
        weights, last = self._unit_weights, self.plan.dims.layers
        positions = self._positions(event)
        if event.j == 0:
            x = look_up(self.spec, before.looked_up, weights, positions)
        else:
            x = maths.finish(self.spec, before.x, before.all_attended(), weights)
        if event.j == last:
            hidden = maths.norm(self.spec, x[:, -1], weights, "final_norm")
            logits = maths.linear(hidden, weights, "head")
            thrown = dice(self.request.sampling, event.i, self.plan.rows)
            mine = None if thrown is None else thrown[self.rows[event.k]]
            after.tokens = choose(logits, self.request.sampling, mine)
            self.hand_over(after.tokens)
            return 0
        q, kv = maths.project(self.spec, x, weights, positions)
        keep = self.plan.kept(event.i, event.j)
        after.x, after.q = x[:, -keep:], q[:, :, -keep:]
        after.fresh = encode(kv, self.plan.policy.kv_bits)
        after.attended = x.new_empty(0, keep, self.plan.dims.q_width)
        self.hand_over(after.x, after.q, *after.fresh)
        return 0

    def _positions(self, event: Event, device: torch.device | None = None) -> torch.Tensor:
        """Position ids (rows, t) of the tokens of this step; padding counts as position 0."""
        valid = self.valid_rows(event.k, device or self.lanes.device)
        if event.i == 0:
            return (valid[:, : self.plan.prompt_len].cumsum(1) - 1).clamp_min(0)
        lengths = valid[:, : self.plan.prompt_len].sum(1, keepdim=True)
        return lengths + event.i - 1

    def _collect(self, event: Event, flow: Flow) -> int:
        rows = self.rows[event.k]
        chosen = flow.tokens.cpu()
        if self.request.stop:
            chosen[self.finished[rows]] = self.request.pad
        self.tokens[rows, event.i] = chosen
        for end in self.request.stop:
            self.finished[rows] |= chosen == end
        return chosen.nbytes

    def host_positions(self, event: Event) -> torch.Tensor:
        """Rows of the position table (rows, t) that this step adds, on the host."""
        import torch

        return self._positions(event, torch.device("cpu")) + self.spec.position_offset

    def step_ids(self, event: Event) -> torch.Tensor:
        """Token ids (rows, t) that this step embeds, on the host."""
        rows = self.rows[event.k]
        return self.request.ids[rows] if event.i == 0 else self.tokens[rows, event.i - 1, None]
