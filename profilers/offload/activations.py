"""Activation events: what rests between units, and the embeddings that a step begins with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.offload_counts import event_bytes
from analyzer.offload_schedule import Event
from profilers.offload.lanes import Ticket
from profilers.offload.rings import Slot
from profilers.offload.state import Flow

if TYPE_CHECKING:
    from profilers.offload.block import Block


class Activations:
    """The handlers of a block that have to do with its hidden states."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.plan, self.memory = block.plan, block.memory

    def store_hidden(self, event: Event) -> None:
        """Take rows that rest elsewhere off the GPU."""
        resting, k = self.memory.resting, event.k
        if not resting.away(k):
            return
        flow = self.block.flows[k]
        moved = event_bytes(self.plan, event)
        waits = [
            *self.block.progress.of("compute", *event[1:]),
            *self.block.progress.of("attend", *event[1:]),
        ]
        staging = self.memory.rest_out.take() if self.plan.act[k][2] else None

        def save() -> int:
            moved = 0
            state = (flow.x, flow.attended)
            if self.plan.act[k][1]:
                moved += resting.store(resting.on_cpu[k], k, 1, state)
            if staging is not None:
                moved += resting.store(staging.buffer, k, 2, state)
            flow.x, flow.attended = resting.on_gpu(k, state)
            self.block.hand_over(flow.x, flow.attended)
            return moved

        if staging is not None:
            waits += staging.users
        saved = self.block.submit("store_hidden", "d2h", event, save, waits)
        if staging is not None:
            size, buffer = moved["store_hidden", "disk_write"], staging.buffer
            staging.users = [
                self.block.submit(
                    "store_hidden",
                    "disk_write",
                    event,
                    lambda: self.memory.write_rest(k, buffer[:size]),
                    [saved],
                )
            ]

    def load_hidden(self, event: Event) -> None:
        """Make ready what the next unit reads: embeddings, or the state at rest."""
        if event.j == 0:
            self._gather(event)
            return
        previous = Event("attend", event.i, event.j - 1, event.k)
        self.block.attention.return_attention(event, previous)
        if self.memory.resting.away(event.k):
            self._bring_back(event)

    def _bring_back(self, event: Event) -> None:
        resting, k, flow = self.memory.resting, event.k, self.block.flows[event.k]
        place = (event.i, event.j - 1, k)
        t, count = self.plan.kept(*place[:2]), self.plan.gpu_attended(*place)
        waits = list(self.block.progress.of("store_hidden", *place))
        disk: Slot | None = None
        if self.plan.act[k][2]:
            disk = self.memory.rest_in.take()
            size, buffer = resting.part_B(k, 2, t, count), disk.buffer
            waits.append(
                self.block.submit(
                    "load_hidden",
                    "disk_read",
                    event,
                    lambda: self.memory.read_rest(k, buffer[:size]),
                    [*waits, *disk.users],
                )
            )
        staged = disk.buffer if disk else None

        def assemble() -> int:
            held = flow.x.nbytes + flow.attended.nbytes
            flow.x, attended = resting.assemble(k, (flow.x, flow.attended), staged, t, count)
            flow.attended = attended
            self.block.hand_over(flow.x, attended)
            return flow.x.nbytes + attended.nbytes - held

        loaded = self.block.submit("load_hidden", "h2d", event, assemble, waits)
        if disk:
            disk.users = [loaded]

    def _gather(self, event: Event) -> None:
        flow = Flow()
        self.block.flows[event.k] = flow
        waits: list[Ticket] = []
        if event.i:
            waits = list(
                self.block.progress.of("compute", event.i - 1, self.block.units - 1, event.k)
            )
        moved = event_bytes(self.plan, event)
        self.memory.tables.submit(self.block, event, flow, waits, moved)
