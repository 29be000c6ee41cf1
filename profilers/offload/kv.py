"""The KV cache of a block, split by whole sequences over GPU, CPU and disk.

Every part is a list of planes (see quant) with logical axes (k or v, rows, heads, tokens, width).
Where a part is attended in place its memory runs head by head; where it is only moved it runs
token by token, so that a prefix is one contiguous run to read and a new token one to write.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.offload_counts import BlockPlan
from profilers.offload.files import Extent, Spill, read_exact, write_exact
from profilers.offload.host import HostMemory, as_bytes
from profilers.offload.quant import plane_dtypes, plane_widths

if TYPE_CHECKING:
    import torch

    Planes = list[torch.Tensor]

TOKEN_MAJOR = (3, 0, 1, 2, 4)  # logical axes in the order that memory has them
TO_LOGICAL = (1, 2, 3, 0, 4)


@dataclass(frozen=True)
class KVLayout:
    """Shape of one token's entry in each plane."""

    heads: int
    widths: tuple[int, ...]
    dtypes: tuple[torch.dtype, ...]

    @classmethod
    def of(cls, plan: BlockPlan, dtype: torch.dtype) -> KVLayout:
        """The layout that the plan's precision asks for."""
        width, bits = plan.dims.head_dim, plan.policy.kv_bits
        return cls(
            plan.dims.kv_heads,
            tuple(plane_widths(width, bits)),
            tuple(plane_dtypes(width, bits, dtype)),
        )

    def token_B(self, rows: int) -> list[int]:
        """Bytes of one token of `rows` sequences in each plane."""
        return [
            2 * rows * self.heads * width * dtype.itemsize
            for width, dtype in zip(self.widths, self.dtypes, strict=True)
        ]

    def buffer_B(self, rows: int, tokens: int) -> int:
        """Bytes of a buffer that holds `tokens` tokens of `rows` sequences."""
        return sum(_aligned(each * tokens) for each in self.token_B(rows))

    def token_major(self, buffer: torch.Tensor, rows: int, tokens: int) -> Planes:
        """Logical planes over a byte buffer whose memory runs token by token."""
        return [plane.permute(TO_LOGICAL) for plane in self.raw(buffer, rows, tokens)]

    def raw(self, buffer: torch.Tensor, rows: int, tokens: int) -> Planes:
        """Planes over a byte buffer with axes (tokens, k or v, rows, heads, width)."""
        planes, start = [], 0
        for each, width, dtype in zip(self.token_B(rows), self.widths, self.dtypes, strict=True):
            size = each * tokens
            flat = buffer[start : start + size].view(dtype)
            planes.append(flat.view(tokens, 2, rows, self.heads, width))
            start += _aligned(size)
        return planes

    def head_major(self, buffer: torch.Tensor, rows: int, tokens: int) -> Planes:
        """Logical planes over a byte buffer whose memory runs head by head."""
        planes, start = [], 0
        for each, width, dtype in zip(self.token_B(rows), self.widths, self.dtypes, strict=True):
            size = each * tokens
            flat = buffer[start : start + size].view(dtype)
            planes.append(flat.view(2, rows, self.heads, tokens, width))
            start += _aligned(size)
        return planes


def _aligned(size: int) -> int:
    return -(-size // 64) * 64


def put(home: Planes, start: int, fresh: Planes) -> int:
    """Write new tokens into planes at position `start`; returns the bytes written."""
    moved = 0
    for target, source in zip(home, fresh, strict=True):
        moved += source.nbytes
        place = target[:, :, :, start : start + source.shape[3]]
        if target.stride(3) < target.stride(0):
            place.copy_(source, non_blocking=True)
        else:
            ordered = source.permute(TOKEN_MAJOR).contiguous()
            place.permute(TOKEN_MAJOR).copy_(ordered, non_blocking=True)
    return moved


def prefix(planes: Planes, tokens: int) -> Planes:
    """The first tokens of each plane."""
    return [plane[:, :, :, :tokens] for plane in planes]


class KVCache:
    """Homes of the KV of every (layer, micro-batch)."""

    def __init__(
        self,
        plan: BlockPlan,
        layout: KVLayout,
        capacity: int,
        device: torch.device,
        host: HostMemory,
        spill: Spill,
    ) -> None:
        self.layout, self.capacity = layout, capacity
        self.on_gpu: dict[tuple[int, int], Planes] = {}
        self.on_cpu: dict[tuple[int, int], Planes] = {}
        self.on_disk: dict[tuple[int, int], Extent] = {}
        in_place = plan.policy.cpu_attention
        for layer, splits in enumerate(plan.kv):
            for k, (gpu, cpu, disk) in enumerate(splits):
                at = (layer, k)
                if gpu:
                    buffer = _device_bytes(layout.buffer_B(gpu, capacity), device)
                    self.on_gpu[at] = layout.head_major(buffer, gpu, capacity)
                if cpu:
                    buffer = host.bytes(layout.buffer_B(cpu, capacity))
                    shape = layout.head_major if in_place else layout.token_major
                    self.on_cpu[at] = shape(buffer, cpu, capacity)
                if disk:
                    self.on_disk[at] = spill.claim(layout.buffer_B(disk, capacity))

    def read_disk(self, at: tuple[int, int], rows: int, tokens: int, target: Planes) -> int:
        """Read the first tokens from disk into raw planes in host memory."""
        start = moved = 0
        for each, plane in zip(self.layout.token_B(rows), target, strict=True):
            moved += read_exact(self.on_disk[at], as_bytes(plane[:tokens]), start)
            start += _aligned(each * self.capacity)
        return moved

    def write_disk(self, at: tuple[int, int], rows: int, start: int, fresh: Planes) -> int:
        """Write raw planes of new tokens to disk at position `start`."""
        base = moved = 0
        for each, plane in zip(self.layout.token_B(rows), fresh, strict=True):
            moved += write_exact(self.on_disk[at], as_bytes(plane), base + start * each)
            base += _aligned(each * self.capacity)
        return moved


def _device_bytes(size_B: int, device: torch.device) -> torch.Tensor:
    import torch

    return torch.empty(size_B, dtype=torch.uint8, device=device)
