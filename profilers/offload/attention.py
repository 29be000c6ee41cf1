"""Attention events: bring the cache, keep the new tokens, attend where the policy says.

Prefill attends on the GPU from what it has just computed. In decoding the rows of each tier are a
part of their own: parts on the GPU or staged there are attended by the GPU, and with CPU attention
the parts on CPU and disk are attended by the CPU, which then only needs the queries.

Attention always sees what the cache stores, so that a compressed cache gives the same tokens
whichever tier it lies on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.offload_counts import cpu_attention_B, event_bytes, gpu_attention_flops
from analyzer.offload_schedule import Event
from profilers.offload import maths
from profilers.offload.kv import TO_LOGICAL, TOKEN_MAJOR, prefix, put
from profilers.offload.lanes import Job, Ticket
from profilers.offload.quant import decode
from profilers.offload.rings import Slot
from profilers.offload.state import Flow, join

if TYPE_CHECKING:
    import torch

    from profilers.offload.block import Block

    Planes = list[torch.Tensor]


class Attention:
    """The handlers of a block that have to do with its KV cache."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.plan, self.memory = block.plan, block.memory
        self.on_cpu = block.plan.policy.cpu_attention
        self.staged: dict[tuple[int, int], dict[str, Slot]] = {}
        self.new_on_disk: dict[tuple[int, int], Slot] = {}

    def _start(self, event: Event) -> int:
        """Cache position of the first new token of a step."""
        return 0 if event.i == 0 else self.plan.prompt_len + event.i - 1

    # Loading

    def load_cache(self, event: Event) -> None:
        """Bring the prefix of parts off the GPU to where they will be attended."""
        at = (event.j, event.k)
        _, cpu, disk = self.plan.kv[event.j][event.k]
        waits = list(self.block.progress.of("store_cache", event.i - 1, event.j, event.k))
        slots: dict[str, Slot] = {}
        if disk:
            slots["host"] = self.memory.kv_in.take()
            waits.append(self._read(event, disk, slots["host"], waits))
        if not self.on_cpu and cpu + disk:
            slots["device"] = self.memory.kv_device.take()
            copy = self._bring(event, slots, waits)
            if disk:
                slots["host"].users = [copy]
        self.staged[at] = slots

    def _read(self, event: Event, disk: int, slot: Slot, waits: list[Ticket]) -> Ticket:
        tokens = self._start(event)
        target = self.memory.layout.raw(slot.buffer, disk, tokens + 1)
        return self.block.submit(
            "load_cache",
            "disk_read",
            event,
            lambda: self.memory.kv.read_disk((event.j, event.k), disk, tokens, target),
            [*waits, *slot.users],
        )

    def _bring(self, event: Event, slots: dict[str, Slot], waits: list[Ticket]) -> Ticket:
        tokens, layout = self._start(event), self.memory.layout
        disk = self.plan.kv[event.j][event.k][2]
        home = self.memory.kv.on_cpu.get((event.j, event.k), [])
        parts = self._device_parts(event, slots["device"])

        def copy() -> int:
            moved = 0
            for target, source in zip(parts.get("cpu", []), home, strict=True):
                run = source.permute(TOKEN_MAJOR)[:tokens]
                target[:tokens].copy_(run, non_blocking=True)
                moved += run.nbytes
            if disk:
                staged = layout.raw(slots["host"].buffer, disk, tokens + 1)
                for target, source in zip(parts["disk"], staged, strict=True):
                    target[:tokens].copy_(source[:tokens], non_blocking=True)
                    moved += source[:tokens].nbytes
            return moved

        return self.block.submit("load_cache", "h2d", event, copy, [*waits, *slots["device"].users])

    def _device_parts(self, event: Event, slot: Slot) -> dict[str, Planes]:
        """Raw planes of the staged parts in a device slot."""
        tokens, layout = self._start(event) + 1, self.memory.layout
        _, cpu, disk = self.plan.kv[event.j][event.k]
        cut = layout.buffer_B(cpu, tokens)
        parts = {}
        if cpu:
            parts["cpu"] = layout.raw(slot.buffer, cpu, tokens)
        if disk:
            parts["disk"] = layout.raw(slot.buffer[cut:], disk, tokens)
        return parts

    # Storing

    def store_cache(self, event: Event) -> None:
        """Take the new keys and values to CPU and disk, and the queries when the CPU attends."""
        flow = self.block.flows[event.k]
        gpu, cpu, disk = self.plan.kv[event.j][event.k]
        computed = self.block.progress.of("compute", *event[1:])
        tickets: list[Ticket] = []
        if cpu + disk:
            tickets += self._save(event, flow, computed)
        if event.i and self.on_cpu and cpu + disk:
            flow.hold()

            def send() -> int:
                flow.host_q = flow.q[gpu:].to("cpu")
                flow.drop()
                return flow.host_q.nbytes

            tickets.append(self.block.submit("send_query", "d2h", event, send, computed))
        self.block.recent.append(tickets)

    def _save(self, event: Event, flow: Flow, computed: list[Ticket]) -> list[Ticket]:
        gpu, cpu, disk = self.plan.kv[event.j][event.k]
        start, fresh = self._start(event), self.plan.fresh(event.i)
        at, memory = (event.j, event.k), self.memory
        slot = memory.kv_out.take() if disk else None

        def save() -> int:
            moved = 0
            if cpu:
                moved += put(memory.kv.on_cpu[at], start, _rows(flow.fresh, gpu, gpu + cpu))
            if slot is not None:
                targets = memory.layout.raw(slot.buffer, disk, fresh)
                sources = _rows(flow.fresh, gpu + cpu, gpu + cpu + disk)
                for target, source in zip(targets, sources, strict=True):
                    target.copy_(source.permute(TOKEN_MAJOR).contiguous(), non_blocking=True)
                    moved += source.nbytes
            flow.drop()
            return moved

        flow.hold()
        waits = [*computed, *(slot.users if slot else [])]
        saved = self.block.submit("store_cache", "d2h", event, save, waits)
        if slot is None:
            return [saved]
        planes = memory.layout.raw(slot.buffer, disk, fresh)
        written = self.block.submit(
            "store_cache",
            "disk_write",
            event,
            lambda: memory.kv.write_disk(at, disk, start, planes),
            [saved],
        )
        slot.users = [written]
        self.new_on_disk[at] = slot
        return [saved, written]

    # Attending

    def attend(self, event: Event) -> None:
        """Attend the parts of a micro-batch where they are."""
        flow, slots = self.block.flows[event.k], {}
        gpu_rows = self.plan.gpu_attended(*event[1:])
        waits = list(self.block.progress.of("compute", *event[1:]))
        if event.i:
            slots = self.staged.pop((event.j, event.k), {})
            waits += self.block.progress.of("load_cache", *event[1:])
        if gpu_rows:
            flow.hold()
            work = gpu_attention_flops(self.plan, event)
            job = self._on_gpu(event, flow, slots) if event.i else self._prefill(event, flow)
            ticket = self.block.submit("attend", "gpu", event, job, waits, work)
            if "device" in slots:
                slots["device"].users = [ticket]
        if gpu_rows < self.plan.batches[event.k]:
            self._submit_cpu(event, flow, slots, waits)
        flow.drop()  # from here on only the jobs hold queries, keys and values

    def _submit_cpu(
        self, event: Event, flow: Flow, slots: dict[str, Slot], waits: list[Ticket]
    ) -> None:
        stored = self.block.progress.of("store_cache", *event[1:])
        waits = [*waits, *(ticket for ticket in stored if ticket.link == "d2h")]
        fresh = self.new_on_disk.pop((event.j, event.k), None)
        ticket = self.block.submit(
            "attend",
            "cpu",
            event,
            self._on_host(event, flow, slots.get("host"), fresh),
            waits,
            cpu_attention_B(self.plan, event),
        )
        if "host" in slots:
            slots["host"].users = [ticket]
        if fresh is not None:
            fresh.users = [*fresh.users, ticket]

    def _prefill(self, event: Event, flow: Flow) -> Job:
        gpu = self.plan.kv[event.j][event.k][0]
        at = (event.j, event.k)

        def job() -> int:
            if gpu:
                put(self.memory.kv.on_gpu[at], 0, _rows(flow.fresh, 0, gpu))
            flow.attended = self._attend(event, flow.q, flow.fresh, 0)
            flow.drop()
            self.block.hand_over(flow.attended)
            return 0

        return job

    def _on_gpu(self, event: Event, flow: Flow, slots: dict[str, Slot]) -> Job:
        start = self._start(event)
        gpu, cpu, disk = self.plan.kv[event.j][event.k]
        raw = self._device_parts(event, slots["device"]) if "device" in slots else {}

        def job() -> int:
            done, first = [], 0
            if gpu:
                home = self.memory.kv.on_gpu[event.j, event.k]
                put(home, start, _rows(flow.fresh, 0, gpu))
                done.append(self._attend(event, flow.q[:gpu], prefix(home, start + 1), 0))
                first = gpu
            for name, rows in (("cpu", cpu), ("disk", disk)):
                if name in raw:
                    planes = [plane.permute(TO_LOGICAL) for plane in raw[name]]
                    put(planes, start, _rows(flow.fresh, first, first + rows))
                    q = flow.q[first : first + rows]
                    done.append(self._attend(event, q, planes, first))
                    first += rows
            flow.attended = join(done)
            flow.drop()
            self.block.hand_over(flow.attended)
            return 0

        return job

    def _on_host(self, event: Event, flow: Flow, staged: Slot | None, fresh: Slot | None) -> Job:
        start, layout = self._start(event), self.memory.layout
        gpu, cpu, disk = self.plan.kv[event.j][event.k]

        def job() -> int:
            done = []
            if cpu:
                home = prefix(self.memory.kv.on_cpu[event.j, event.k], start + 1)
                done.append(self._attend(event, flow.host_q[:cpu], home, gpu))
            if staged is not None and fresh is not None:
                raw = layout.raw(staged.buffer, disk, start + 1)
                for target, source in zip(raw, layout.raw(fresh.buffer, disk, 1), strict=True):
                    target[start:].copy_(source)
                planes = [plane.permute(TO_LOGICAL) for plane in raw]
                done.append(self._attend(event, flow.host_q[cpu:], planes, gpu + cpu))
            flow.host_attended = join(done)
            return 0

        return job

    def _attend(self, event: Event, q: torch.Tensor, planes: Planes, first: int) -> torch.Tensor:
        """Attend the rows from `first` on, given the planes of all keys and values they see."""
        import torch

        kv = decode(planes, self.plan.policy.kv_bits, q.dtype)
        keys, queries = kv.shape[3], q.shape[2]
        valid = self.block.valid_rows(event.k, q.device)[first : first + q.shape[0], :keys]
        window = self.block.spec.windows[event.j]
        mask = maths.visible(valid, keys - queries, queries, window)
        if q.device.type == "cpu" and q.dtype == torch.float16:  # CPUs crawl in fp16
            return maths.attend(q.float(), kv.float(), mask).half()
        return maths.attend(q, kv, mask)

    def return_attention(self, event: Event, attended: Event) -> None:
        """Bring what the CPU attended back to the device, for the unit that follows."""
        flow = self.block.flows[event.k]
        moved = event_bytes(self.plan, attended._replace(stage="store_cache"))
        size = moved["return_attention", "h2d"]
        if not size:
            return
        waits = [t for t in self.block.progress.of(*attended) if t.link == "cpu"]

        def bring() -> int:
            flow.returned = flow.host_attended.to(self.block.lanes.device)
            self.block.hand_over(flow.returned)
            return flow.returned.nbytes

        self.block.submit("return_attention", "h2d", event, bring, waits, size)


def _rows(planes: Planes, start: int, stop: int) -> Planes:
    return [plane[:, start:stop] for plane in planes]
