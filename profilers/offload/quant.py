"""Group-wise int8 and int4 codes: a scale and a minimum per group of the last axis.

A constant group gets scale 0 and comes back exactly (as its fp16 minimum). Codes are planes: one
of packed integers, one of (scale, minimum) pairs, so a cache moves them like any other tensor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from analyzer.offload_shapes import quant_group

if TYPE_CHECKING:
    import torch

Planes = "list[torch.Tensor]"


def compressed(width: int, bits: int) -> bool:
    """Whether an axis of this width is stored in groups at this precision."""
    return bits in (4, 8) and quant_group(width) > 0


def plane_widths(width: int, bits: int) -> list[int]:
    """Last-axis widths of the planes that store `width` elements."""
    if not compressed(width, bits):
        return [width]
    return [width * bits // 8, width // quant_group(width) * 2]


def plane_dtypes(width: int, bits: int, dtype: torch.dtype) -> list[torch.dtype]:
    """Element types of those planes."""
    import torch

    return [torch.uint8, torch.float16] if compressed(width, bits) else [dtype]


def encode(values: torch.Tensor, bits: int) -> list[torch.Tensor]:
    """Planes of `values` (any leading shape, grouped along the last axis)."""
    import torch

    width = values.shape[-1]
    if not compressed(width, bits):
        return [values]
    grouped = values.reshape(*values.shape[:-1], -1, quant_group(width)).float()
    low = grouped.amin(-1, keepdim=True).half()
    top = float(2**bits - 1)
    scale = ((grouped.amax(-1, keepdim=True) - low.float()) / top).clamp_min(0).half()
    step = scale.float()
    codes = torch.where(step > 0, (grouped - low.float()) / step.clamp_min(1e-30), 0.0)
    codes = codes.round_().clamp_(0, top).to(torch.uint8).flatten(-2)
    if bits == 4:
        codes = codes[..., 0::2] | (codes[..., 1::2] << 4)
    return [codes, torch.cat([scale, low], -1).flatten(-2)]


def decode(planes: list[torch.Tensor], bits: int, dtype: torch.dtype) -> torch.Tensor:
    """The values that planes stand for."""
    import torch

    if len(planes) == 1:
        return planes[0]
    codes, meta = planes
    if bits == 4:
        codes = torch.stack([codes & 15, codes >> 4], -1).flatten(-2)
    pairs = meta.reshape(*meta.shape[:-1], -1, 2).float()
    grouped = codes.reshape(*codes.shape[:-1], pairs.shape[-2], -1).float()
    return torch.addcmul(pairs[..., 1:], grouped, pairs[..., :1]).flatten(-2).to(dtype)


def round_trip(values: torch.Tensor, bits: int) -> torch.Tensor:
    """What `values` become once stored and read back."""
    return decode(encode(values, bits), bits, values.dtype)
