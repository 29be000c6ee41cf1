"""What transformers spends on attention and recurrences where a server spends less.

Its eager attention multiplies every query with every key and masks the result; latent attention
re-expands all cached latents; its recurrences work on whole padded chunks. Everything else must be
equal to the last FLOP.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from analyzer.model import (
    MLA,
    Attention,
    CompressedAttention,
    GatedDelta,
    Indexer,
    Kind,
    Layer,
    Lightning,
    Mamba1,
    Mamba2,
    Model,
    MoE,
    ShortConv,
)
from analyzer.optable import OpTable

MATRIX = ("gemm", "grouped_gemm")


def matrix_flops(table: OpTable) -> float:
    """FLOPs of linear layers."""
    chosen = np.array([kind in MATRIX for kind in table.kinds])
    return float((table.flops * table.repeat)[chosen].sum())


def idle_expert_flops(model: Model, table: OpTable) -> float:
    """FLOPs of the experts that a token does not visit, which Llama-4's code computes too."""
    (idle,) = {
        layer.ffn.experts / layer.ffn.top_k - 1.0
        for layer in model.layers
        if isinstance(layer.ffn, MoE)
    }
    chosen = np.array([kind == "grouped_gemm" for kind in table.kinds])
    return idle * float((table.flops * table.repeat)[chosen].sum())


def core_flops(table: OpTable) -> float:
    """FLOPs of attention and recurrences on matrix units."""
    chosen = np.array([kind in ("attention", "scan") for kind in table.kinds])
    return float((table.flops * table.repeat)[chosen].sum())


def masked_core_flops(model: Model, batch: int, new: int, past: int) -> float:
    """FLOPs that transformers spends on attention and recurrences of one forward pass."""
    total = 0.0
    for layer in model.layers:
        for mixer in (layer.mixer, layer.beside):
            if mixer is not None:
                total += batch * _MASKED[type(mixer)](mixer, new, past)
        total += batch * new * _stream_mixing(model, layer)
    return total


def _stream_mixing(model: Model, layer: Layer) -> float:
    """Residual streams are mixed by a small square matrix: before both parts in DeepSeek-V4; once
    in Gemma-3n, which also works out the weights of the streams twice."""
    streams, hidden = model.residual_streams, model.hidden
    if streams == 1:
        return 0.0
    mixing = 2.0 * streams**2 * hidden
    if isinstance(layer.mixer, CompressedAttention):
        return 2 * mixing
    return mixing + 2.0 * hidden * streams


def _attention(kind: Attention, new: int, past: int) -> float:
    kept = past if kind.window is None else min(past, kind.window - 1)
    value_dim = kind.v_head_dim or kind.head_dim
    scores = _scores(kind.indexer, new * (past + new))
    return 2.0 * kind.heads * (kind.head_dim + value_dim) * new * (kept + new) + scores


def _scores(indexer: Indexer | None, pairs: int) -> float:
    """Scores per head, and their weighted sum as one more product."""
    if indexer is None or indexer.reused:
        return 0.0
    return 2.0 * indexer.heads * (indexer.head_dim + indexer.head_weights) * pairs


def _mla(kind: MLA, new: int, past: int) -> float:
    width = kind.nope_dim + kind.rope_dim + kind.v_dim
    keys = past + new
    scores = _scores(kind.indexer, new * keys)
    return 2.0 * kind.heads * width * new * keys + scores


def _compressed(kind: CompressedAttention, new: int, past: int) -> float:
    raw = min(past, kind.window - 1) + new
    packed = 0 if kind.ratio is None else (past + new) // kind.ratio
    scores = 0.0
    if kind.indexer is not None:
        scores = 2.0 * kind.indexer.heads * kind.indexer.head_dim * new * packed
    return 4.0 * kind.heads * kind.head_dim * new * (raw + packed) + scores


def _mamba1(kind: Mamba1, new: int, past: int) -> float:
    return 2.0 * kind.inner * kind.state * new


def _mamba2(kind: Mamba2, new: int, past: int) -> float:
    """Keys and queries are repeated for every head, chunks are padded, and the states of all chunks
    meet in one square product."""
    size = float(kind.heads * kind.head_dim * kind.state)
    if new == 1 and past:
        return 2.0 * size
    chunk, chunks = 256, math.ceil(new / 256)
    within = kind.heads * chunk * chunk * (kind.state + kind.head_dim)
    return 2.0 * (chunks * (within + 2 * chunk * size) + (chunks + 1) ** 2 * size)


def _gated_delta(kind: GatedDelta, new: int, past: int) -> float:
    """One token at a time it multiplies elementwise, which torch does not count. In chunks torch
    does not count the triangular solve of two right-hand sides that one decay per head allows; with
    a decay per channel it inverts explicitly and multiplies keys with keys and queries elementwise.
    """
    if new == 1 and past:
        return 0.0
    chunk, chunks = 64, math.ceil(new / 64)
    key, value = kind.key_dim, kind.value_dim
    products = key + 2 * value if kind.per_channel_decay else 2 * key + value
    per_chunk = chunk * chunk * products + 3 * chunk * key * value
    return 2.0 * kind.value_heads * chunks * per_chunk


def _lightning(kind: Lightning, new: int, past: int) -> float:
    width = kind.head_dim
    if past:
        return 4.0 * kind.heads * new * width * width
    blocks = [min(256, new - start) for start in range(0, new, 256)]
    return kind.heads * sum(4.0 * b * b * width + 4.0 * b * width * width for b in blocks)


def _nothing(kind: ShortConv, new: int, past: int) -> float:
    return 0.0


_MASKED: dict[type[Kind], Callable[[Any, int, int], float]] = {
    Attention: _attention,
    MLA: _mla,
    CompressedAttention: _compressed,
    Mamba1: _mamba1,
    Mamba2: _mamba2,
    GatedDelta: _gated_delta,
    Lightning: _lightning,
    ShortConv: _nothing,
}
