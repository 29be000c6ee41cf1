"""The weights at home on their tiers, and how a unit's share of them reaches the device.

All that a unit streams lies in one span: first what is on disk, then what is on the CPU, laid out
alike at home and in the ring slot on the device. A chunk of the span is then one copy.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from analyzer.offload_counts import BlockPlan
from analyzer.offload_shapes import TensorShape, chunk_count, tensors, units
from profilers.offload.checkpoint import WeightSource
from profilers.offload.files import Extent, Spill, read_exact, write_exact
from profilers.offload.host import HostMemory, as_bytes
from profilers.offload.quant import decode, encode, plane_dtypes, plane_widths

if TYPE_CHECKING:
    import torch

ALIGN_B = 64
Key = tuple[str, int, int]


@dataclass(frozen=True)
class Piece:
    """One plane of one streamed tensor and its place in the unit's span."""

    key: Key
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int
    size_B: int
    extent: Extent | None

    @property
    def end(self) -> int:
        """First byte behind the piece."""
        return self.offset + self.size_B


@dataclass(frozen=True)
class Chunk:
    """A byte range of a span: [start, middle) comes from disk, [middle, end) from the CPU."""

    start: int
    middle: int
    end: int
    disk_B: int
    total_B: int


class WeightStore:
    """Loads every weight to its home once; serves chunks and decoded tensors afterwards."""

    def __init__(
        self,
        plan: BlockPlan,
        source: WeightSource,
        device: torch.device,
        dtype: torch.dtype,
        host: HostMemory,
        spill: Spill,
    ) -> None:
        self.plan, self.source, self.device, self.dtype = plan, source, device, dtype
        self.host, self.spill = host, spill
        self.resident: dict[Key, list[torch.Tensor]] = {}
        self.tables: dict[str, torch.Tensor | Extent] = {}
        self.spans: list[list[Piece]] = []
        self.cpu_spans: list[torch.Tensor | None] = []
        self._disk: dict[Key, list[Extent]] = {}
        self._load()

    def bits(self, tensor: TensorShape) -> int:
        """Precision that the tensor is stored in."""
        return self.plan.policy.weight_bits if tensor.kind == "matrix" else 16

    def _load(self) -> None:
        for tensor in tensors(self.plan.dims):
            home = self.plan.homes[tensor.key]
            if home == 0:
                planes = encode(self.source.load(tensor, self.dtype), self.bits(tensor))
                self.resident[tensor.key] = [plane.to(self.device) for plane in planes]
            elif home == 2:
                self._disk[tensor.key] = self._to_disk(tensor)
                if tensor.kind == "table":
                    self.tables[tensor.role] = self._disk[tensor.key][0]
        for unit in self.plan.streamed:
            self._lay_out(unit)
        for tensor in units(self.plan.dims)[0]:
            lies_on_cpu = tensor.kind == "table" and self.plan.homes[tensor.key] == 1
            if lies_on_cpu and tensor.role not in self.tables:
                self.tables[tensor.role] = self.source.load(tensor, self.dtype)

    def _to_disk(self, tensor: TensorShape) -> list[Extent]:
        planes = encode_shape(tensor, self.bits(tensor), self.dtype)
        if len(planes) == 1 and (extent := self.source.in_place(tensor, self.dtype)):
            return [extent]
        extents = []
        for plane in encode(self.source.load(tensor, self.dtype), self.bits(tensor)):
            raw = as_bytes(plane)
            extents.append(self.spill.claim(raw.numel()))
            write_exact(extents[-1], raw)
        return extents

    def _lay_out(self, unit: list[TensorShape]) -> None:
        ordered = sorted(unit, key=lambda tensor: self.plan.homes[tensor.key], reverse=True)
        pieces: list[Piece] = []
        offset = 0
        for tensor in ordered:
            extents = self._disk.get(tensor.key, [])
            for n, (shape, dtype) in enumerate(encode_shape(tensor, self.bits(tensor), self.dtype)):
                size = dtype.itemsize
                for extent in shape:
                    size *= extent
                disk = extents[n] if extents else None
                pieces.append(Piece(tensor.key, dtype, shape, offset, size, disk))
                offset += -(-size // ALIGN_B) * ALIGN_B
        self.spans.append(pieces)
        self.cpu_spans.append(self._fill(ordered, pieces))

    def _fill(self, ordered: list[TensorShape], pieces: list[Piece]) -> torch.Tensor | None:
        at_home = [piece for piece in pieces if piece.extent is None]
        if not at_home:
            return None
        base = at_home[0].offset
        span = self.host.bytes(at_home[-1].end - base)
        for tensor in (t for t in ordered if self.plan.homes[t.key] == 1):
            planes = encode(self.source.load(tensor, self.dtype), self.bits(tensor))
            own = [piece for piece in at_home if piece.key == tensor.key]
            for piece, plane in zip(own, planes, strict=True):
                target = span[piece.offset - base : piece.end - base]
                target.copy_(as_bytes(plane))
                if tensor.kind == "table":
                    self.tables[tensor.role] = target.view(self.dtype).view(tensor.shape)
        return span

    def span_B(self) -> int:
        """Bytes of the largest span: the size of a ring slot."""
        return max((pieces[-1].end for pieces in self.spans if pieces), default=0)

    def chunks(self, j: int, batches: int) -> list[Chunk]:
        """Cut the span of unit j into about equal pieces, none tiny and none huge."""
        pieces = self.spans[j]
        if not pieces:
            return []
        end = pieces[-1].end
        on_disk = max((piece.end for piece in pieces if piece.extent is not None), default=0)
        parts = chunk_count(end, batches)
        cuts = [end * n // parts // ALIGN_B * ALIGN_B for n in range(parts)] + [end]
        chunks = []
        for start, stop in pairwise(cuts):
            middle = min(max(start, on_disk), stop)
            disk_B = sum(stop_ - start_ for _, start_, stop_ in self._inside(j, start, middle))
            cpu_B = sum(stop_ - start_ for _, start_, stop_ in self._inside(j, middle, stop))
            chunks.append(Chunk(start, middle, stop, disk_B, disk_B + cpu_B))
        return chunks

    def _inside(self, j: int, start: int, stop: int) -> Iterator[tuple[Piece, int, int]]:
        for piece in self.spans[j]:
            first, last = max(piece.offset, start), min(piece.end, stop)
            if first < last:
                yield piece, first, last

    def read_disk(self, j: int, chunk: Chunk, staging: torch.Tensor) -> int:
        """Read the disk part of a chunk into host staging memory."""
        moved = 0
        for piece, first, last in self._inside(j, chunk.start, chunk.middle):
            if piece.extent is not None:
                target = staging[first - chunk.start : last - chunk.start]
                moved += read_exact(piece.extent, target, first - piece.offset)
        return moved

    def copy_chunk(
        self, j: int, chunk: Chunk, slot: torch.Tensor, staging: torch.Tensor | None
    ) -> int:
        """Bring a chunk into its place in a ring slot; alignment gaps do not count as bytes."""
        if staging is not None:
            part = slot[chunk.start : chunk.middle]
            part.copy_(staging[: chunk.middle - chunk.start], non_blocking=True)
        span = self.cpu_spans[j]
        if span is not None and chunk.end > chunk.middle:
            pieces = self.spans[j]
            base = next(piece.offset for piece in pieces if piece.extent is None)
            first = max(chunk.middle, base)
            if first < chunk.end:
                source = span[first - base : chunk.end - base]
                slot[first : chunk.end].copy_(source, non_blocking=True)
        inside = self._inside(j, chunk.start, chunk.end)
        return sum(last - first for _, first, last in inside)

    def unit(self, j: int, slot: torch.Tensor | None) -> dict[tuple[str, int], torch.Tensor]:
        """The decoded tensors of unit j: resident ones and those in the ring slot."""
        streamed: dict[Key, list[torch.Tensor]] = {}
        for piece in self.spans[j]:
            assert slot is not None  # noqa: S101 - a unit that streams has a slot
            plane = slot[piece.offset : piece.end].view(piece.dtype).view(piece.shape)
            streamed.setdefault(piece.key, []).append(plane)
        decoded = {}
        for tensor in units(self.plan.dims)[j]:
            planes = streamed.get(tensor.key) or self.resident.get(tensor.key)
            if planes is not None:
                role = "head" if tensor.role == "embed" and j else tensor.role
                decoded[role, tensor.expert] = decode(planes, self.bits(tensor), self.dtype)
        return decoded


def encode_shape(
    tensor: TensorShape, bits: int, dtype: torch.dtype
) -> list[tuple[tuple[int, ...], torch.dtype]]:
    """Shape and type of each plane that stores the tensor."""
    width = tensor.shape[-1]
    return [
        ((*tensor.shape[:-1], plane), kind)
        for plane, kind in zip(
            plane_widths(width, bits), plane_dtypes(width, bits, dtype), strict=True
        )
    ]
