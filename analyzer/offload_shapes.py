"""What an offloaded model consists of: its tensors, grouped into schedule units.

A unit is what runs between two attentions, because attention is the one operator that may run
somewhere else. Unit 0 embeds and projects the queries of layer 0; unit j finishes layer j-1
(output projection, MLP) and starts layer j; the last unit finishes the last layer and makes the
logits. One sweep over the micro-batches per unit is then enough to let the CPU attend for
micro-batch k+1 while the GPU works on micro-batch k.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

QUANT_GROUPS = (64, 32, 16, 8)
MIN_CHUNK_B, MAX_CHUNK_B = 1 << 20, 64 << 20
CHUNKS = 8
META_B = 4  # one fp16 scale and one fp16 minimum per group


@dataclass(frozen=True, kw_only=True)
class OffloadDims:
    """Sizes of a decoder: all that placement, byte counts and timing need to know."""

    layers: int
    hidden: int
    ffn: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int
    gated: bool = True
    norm_bias: bool = False
    qkv_bias: bool = False
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    tied: bool = False
    positions: int = 0
    experts: int = 0
    experts_per_token: int = 0

    @property
    def q_width(self) -> int:
        """Elements of one token's queries."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Elements of one token's keys (or values) in one layer."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class TensorShape:
    """One weight tensor. `kind`: matrix (may be compressed), vector, or table."""

    role: str
    layer: int
    shape: tuple[int, ...]
    kind: str
    expert: int = -1

    @property
    def numel(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the tensor in the model."""
        return (self.role, self.layer, self.expert)


def chunk_count(span_B: float, batches: int) -> int:
    """Copies that bring a unit's span: small enough to let others on the link in between."""
    if span_B <= 0:
        return 0
    pieces = min(max(batches, CHUNKS), int(span_B // MIN_CHUNK_B))
    return max(1, pieces, math.ceil(span_B / MAX_CHUNK_B))


def quant_group(width: int) -> int:
    """Elements that share a scale along an axis of `width`; 0 when it cannot be grouped."""
    return next((group for group in QUANT_GROUPS if width % group == 0), 0)


def encoded_B(numel: int, width: int, itemsize: int, bits: int) -> int:
    """Bytes of `numel` elements in rows of `width`, stored in `bits` (16 or 32: as they are)."""
    group = quant_group(width)
    if bits not in (4, 8) or group == 0:
        return numel * itemsize
    return numel * bits // 8 + numel // group * META_B


def tensor_B(tensor: TensorShape, itemsize: int, bits: int) -> int:
    """Stored bytes of a weight tensor; only matrices are compressed."""
    kept = bits if tensor.kind == "matrix" else 16
    return encoded_B(tensor.numel, tensor.shape[-1], itemsize, kept)


def kv_token_B(dims: OffloadDims, itemsize: int, bits: int) -> int:
    """Stored bytes of the keys and values of one token in one layer."""
    return encoded_B(2 * dims.kv_width, dims.head_dim, itemsize, bits)


@lru_cache(maxsize=64)
def units(dims: OffloadDims) -> tuple[tuple[TensorShape, ...], ...]:
    """The tensors that each schedule unit computes with (a tied head lists the table again)."""
    table = [TensorShape("embed", 0, (dims.vocab, dims.hidden), "table")]
    if dims.positions:
        table.append(TensorShape("positions", 0, (dims.positions, dims.hidden), "table"))
    inner = [[*_post(dims, j - 1), *_pre(dims, j)] for j in range(1, dims.layers)]
    head = (
        table[0]
        if dims.tied
        else TensorShape("head", dims.layers, (dims.vocab, dims.hidden), "matrix")
    )
    last = [*_post(dims, dims.layers - 1), *_norm(dims, "final_norm", dims.layers), head]
    return tuple(tuple(unit) for unit in ([*table, *_pre(dims, 0)], *inner, last))


@lru_cache(maxsize=64)
def tensors(dims: OffloadDims) -> tuple[TensorShape, ...]:
    """Every tensor of the model once, in schedule order."""
    seen = {tensor.key: tensor for unit in units(dims) for tensor in unit}
    return tuple(seen.values())


def _norm(dims: OffloadDims, role: str, layer: int) -> Iterator[TensorShape]:
    yield TensorShape(role, layer, (dims.hidden,), "vector")
    if dims.norm_bias:
        yield TensorShape(f"{role}_bias", layer, (dims.hidden,), "vector")


def _linear(
    role: str, layer: int, rows: int, columns: int, bias: bool, expert: int = -1
) -> Iterator[TensorShape]:
    yield TensorShape(role, layer, (rows, columns), "matrix", expert)
    if bias:
        yield TensorShape(f"{role}_bias", layer, (rows,), "vector", expert)


def _pre(dims: OffloadDims, layer: int) -> Iterator[TensorShape]:
    yield from _norm(dims, "attn_norm", layer)
    yield from _linear("q", layer, dims.q_width, dims.hidden, dims.qkv_bias)
    yield from _linear("k", layer, dims.kv_width, dims.hidden, dims.qkv_bias)
    yield from _linear("v", layer, dims.kv_width, dims.hidden, dims.qkv_bias)
    if dims.qk_norm:
        yield TensorShape("q_norm", layer, (dims.head_dim,), "vector")
        yield TensorShape("k_norm", layer, (dims.head_dim,), "vector")


def _post(dims: OffloadDims, layer: int) -> Iterator[TensorShape]:
    yield from _linear("o", layer, dims.hidden, dims.q_width, dims.o_bias)
    yield from _norm(dims, "mlp_norm", layer)
    if dims.experts:
        yield TensorShape("router", layer, (dims.experts, dims.hidden), "vector")
    for expert in range(dims.experts) if dims.experts else (-1,):
        if dims.gated:
            yield from _linear("gate", layer, dims.ffn, dims.hidden, dims.mlp_bias, expert)
        yield from _linear("up", layer, dims.ffn, dims.hidden, dims.mlp_bias, expert)
        yield from _linear("down", layer, dims.hidden, dims.ffn, dims.mlp_bias, expert)
