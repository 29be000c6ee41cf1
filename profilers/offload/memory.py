"""Everything a block allocates besides weights: caches, resting activations, staging rings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.offload_counts import BlockPlan
from profilers.offload.files import Spill, read_exact, write_exact
from profilers.offload.host import HostMemory
from profilers.offload.kv import KVCache, KVLayout
from profilers.offload.resting import Resting
from profilers.offload.rings import Ring
from profilers.offload.tables import Tables
from profilers.offload.weights import WeightStore

if TYPE_CHECKING:
    import torch

RING = 2
READS_AHEAD = 3


class Memory:
    """Buffers of one block; `close` returns what the operating system must be told about."""

    def __init__(
        self,
        plan: BlockPlan,
        weights: WeightStore,
        valid: torch.Tensor,
        steps: int,
        spill: Spill,
        pinned: bool,
    ) -> None:
        import torch

        self.plan, self.device = plan, weights.device
        self.host = HostMemory(pinned)
        self.spill = spill
        capacity = plan.prompt_len + steps - 1
        generated = torch.ones(plan.rows, steps - 1, dtype=torch.bool)
        full = torch.cat([valid.bool(), generated], 1)
        self.valid = {"cpu": full, self.device.type: full.to(self.device)}
        self.layout = KVLayout.of(plan, weights.dtype)
        self.kv = KVCache(plan, self.layout, capacity, self.device, self.host, spill)
        self.resting = Resting(plan, weights.dtype, self.host, spill)
        self.tables = Tables(weights)
        self._rings(weights, capacity)

    def _rings(self, weights: WeightStore, capacity: int) -> None:
        plan, layout = self.plan, self.layout
        chunks = [c for j in range(plan.unit_count) for c in weights.chunks(j, len(plan.batches))]
        read_B = max((chunk.middle - chunk.start for chunk in chunks), default=0)
        splits = [split for layer in plan.kv for split in layer]
        disk_B = max(layout.buffer_B(disk, capacity) for _, _, disk in splits)
        away_B = max(
            layout.buffer_B(cpu, capacity) + layout.buffer_B(disk, capacity)
            for _, cpu, disk in splits
        )
        staged_B = 0 if plan.policy.cpu_attention else away_B
        rest_B = self.resting.staging_B
        self.weight_ring = self._on_device(RING, weights.span_B())
        self.weight_staging = self._on_host(READS_AHEAD, read_B)
        self.kv_device = self._on_device(RING, staged_B)
        self.kv_in = self._on_host(RING, disk_B)
        self.kv_out = self._on_host(RING, disk_B)
        self.rest_in = self._on_host(RING, rest_B)
        self.rest_out = self._on_host(RING, rest_B)

    def _on_host(self, slots: int, size_B: int) -> Ring:
        return Ring([self.host.bytes(size_B) for _ in range(slots)])

    def _on_device(self, slots: int, size_B: int) -> Ring:
        import torch

        return Ring(
            [torch.empty(size_B, dtype=torch.uint8, device=self.device) for _ in range(slots)]
        )

    def write_rest(self, k: int, flat: torch.Tensor) -> int:
        """Write the resting activations of a micro-batch to disk."""
        return write_exact(self.resting.on_disk[k], flat)

    def read_rest(self, k: int, flat: torch.Tensor) -> int:
        """Read them back."""
        return read_exact(self.resting.on_disk[k], flat)

    def close(self) -> None:
        """Unpin host memory and give the block's disk space back."""
        self.host.close()
        self.spill.close()
