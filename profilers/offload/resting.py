"""Activations at rest between units: rows of a micro-batch on GPU, CPU or disk.

What rests is the residual stream, and the attended values of those rows that attended on the GPU.
A tier's part is one flat run (residual, then attended), the same in host memory and on disk.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.offload_counts import BlockPlan, overlap
from profilers.offload.files import Extent, Spill
from profilers.offload.host import HostMemory

if TYPE_CHECKING:
    import torch

    Pair = tuple[torch.Tensor, torch.Tensor]


class Resting:
    """Homes for the off-GPU activations of every micro-batch of a block."""

    def __init__(self, plan: BlockPlan, dtype: torch.dtype, host: HostMemory, spill: Spill) -> None:
        self.plan, self.dtype = plan, dtype
        wide = (plan.dims.hidden + plan.dims.q_width) * plan.itemsize * plan.prompt_len
        self.on_cpu = [host.bytes(cpu * wide) for _, cpu, _ in plan.act]
        self.on_disk: list[Extent] = [spill.claim(disk * wide) for _, _, disk in plan.act]
        self.staging_B = max((disk * wide for _, _, disk in plan.act), default=0)

    def away(self, k: int) -> bool:
        """Whether any row of the micro-batch rests off the GPU."""
        return any(self.plan.act[k][1:])

    def _range(self, k: int, tier: int) -> tuple[int, int]:
        start = sum(self.plan.act[k][:tier])
        return start, start + self.plan.act[k][tier]

    def part_B(self, k: int, tier: int, t: int, attended: int) -> int:
        """Bytes of a tier's part with `t` positions when the first `attended` rows count."""
        dims, span = self.plan.dims, self._range(k, tier)
        width = (span[1] - span[0]) * dims.hidden + overlap(span, (0, attended)) * dims.q_width
        return width * t * self.plan.itemsize

    def views(self, flat: torch.Tensor, k: int, tier: int, t: int, attended: int) -> Pair:
        """The residual and attended parts of a tier inside a byte buffer."""
        dims, span = self.plan.dims, self._range(k, tier)
        rows, kept = span[1] - span[0], overlap(span, (0, attended))
        size = self.part_B(k, tier, t, attended)
        typed = flat[:size].view(self.dtype)
        cut = rows * t * dims.hidden
        return typed[:cut].view(rows, t, dims.hidden), typed[cut:].view(kept, t, dims.q_width)

    def store(self, flat: torch.Tensor, k: int, tier: int, state: Pair) -> int:
        """Copy a tier's rows of (residual, attended) into a byte buffer."""
        x, attended = state
        t, count = x.shape[1], attended.shape[0]
        start, stop = self._range(k, tier)
        moved = 0
        for target, source in zip(
            self.views(flat, k, tier, t, count),
            (x[start:stop], attended[min(start, count) : min(stop, count)]),
            strict=True,
        ):
            target.copy_(source, non_blocking=True)
            moved += source.nbytes
        return moved

    def on_gpu(self, k: int, state: Pair) -> Pair:
        """The rows that stay on the GPU, as memory of their own."""
        stop = self.plan.act[k][0]
        return state[0][:stop].clone(), state[1][:stop].clone()

    def assemble(self, k: int, kept: Pair, disk: torch.Tensor | None, t: int, count: int) -> Pair:
        """Put the tiers together again on the device of `kept`."""
        import torch

        parts = [kept]
        if self.plan.act[k][1]:
            parts.append(self.views(self.on_cpu[k], k, 1, t, count))
        if disk is not None:
            parts.append(self.views(disk, k, 2, t, count))
        device = kept[0].device
        x = torch.cat([part[0].to(device, non_blocking=True) for part in parts])
        attended = torch.cat([part[1].to(device, non_blocking=True) for part in parts])
        return x, attended
