"""Measured rows as kernel work: bytes per value, FLOPs, bytes moved, what a shape looks like.

One place knows what a benchmark's "fp8_block" means, so that fits, tables and the physics gate
agree on how much work a row was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from analyzer.errors import ConfigError, nearest
from analyzer.sources.operator_rows import OperatorRows
from analyzer.sources.routed_rows import touched_of_rows
from analyzer.timing.kernels.common import Array, Chip
from analyzer.timing.kernels.decode import DecodeWork
from analyzer.timing.kernels.experts import ExpertWork
from analyzer.timing.kernels.gemm import GemmWork
from analyzer.timing.kernels.prefill import PrefillWork
from analyzer.timing.kernels.stream import StreamWork


class Format(NamedTuple):
    """What a benchmark's name of a number format stands for; bytes per value, scales included."""

    weight_B: float
    act_B: float
    compute: str
    narrowed: float = 0.0
    """1 where the timed call narrows 16-bit activations first."""


FORMATS: dict[str, Format] = {
    "fp32": Format(4.0, 4.0, "fp32"),
    "bf16": Format(2.0, 2.0, "bf16"),
    "fp16": Format(2.0, 2.0, "fp16"),
    "fp8": Format(1.0, 1.0, "fp8", 1.0),
    "fp8_block": Format(1.0 + 4.0 / 128**2, 1.0 + 4.0 / 128, "fp8", 1.0),
    "int8": Format(1.0, 1.0, "int8"),
    "sq": Format(1.0, 1.0, "int8", 1.0),
    "int8_wo": Format(1.0, 2.0, "fp16"),
    "int4_wo": Format(0.5 + 2.0 / 128, 2.0, "fp16"),
    "nvfp4": Format(0.5 + 1.0 / 16, 0.5 + 1.0 / 16, "fp4", 1.0),
    "mxfp4": Format(0.5 + 1.0 / 32, 0.5 + 1.0 / 32, "fp4"),
}

BENCHMARK_COPIES = 6.0
"""Copies of the weights that the benchmarks of matrix multiplications cycle through."""


def format_of(dtype: str) -> Format:
    """The format behind a benchmark's name for it."""
    try:
        return FORMATS[dtype]
    except KeyError:
        raise ConfigError(f"unknown operator dtype {dtype!r}{nearest(dtype, FORMATS)}") from None


class Shaped(NamedTuple):
    """Rows of one operator class and format, ready for a kernel form."""

    work: Any
    flops: Array
    moved_B: Array
    """Least traffic: every operand once."""
    features: Array
    """Columns that a residual or a neighbour search looks at, shape (rows, features)."""
    feature_names: tuple[str, ...]
    groups: Array
    """Rows with the same number are the same shape at other sizes: they are held out together."""


def shape_rows(rows: OperatorRows, op: str, dtype: str, chip: Chip) -> Shaped:
    """The rows of one class as work; `rows` must all be of that op and dtype."""
    if op not in _SHAPERS:
        raise ConfigError(f"no kernel form for operator {op!r}{nearest(op, _SHAPERS)}")
    return _SHAPERS[op](rows, format_of(dtype), chip)


def _group(*columns: Array) -> Array:
    _, labels = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True)
    return np.asarray(labels, dtype=float).ravel()


def _log2(*columns: Array) -> Array:
    stacked: Array = np.log2(np.maximum(np.stack(columns, axis=1), 2.0**-20))
    return stacked


def _gemm(rows: OperatorRows, dtype: Format, chip: Chip) -> Shaped:
    m, n, k = (rows.number(name) for name in ("m", "n", "k"))
    hot = np.where(rows.text["cache"] == "cold", 0.0, BENCHMARK_COPIES)
    work = GemmWork(m, n, k, dtype.weight_B, dtype.act_B, 2.0, dtype.narrowed, hot)
    moved_B = n * k * dtype.weight_B + m * k * dtype.act_B + 2.0 * m * n
    features, names = gemm_features(m, n, k, chip)
    return Shaped(work, 2.0 * m * n * k, moved_B, features, names, _group(n, k))


def gemm_features(m: Array, n: Array, k: Array, chip: Chip) -> tuple[Array, tuple[str, ...]]:
    """What a residual on matrix multiplication may look at."""
    logs = _log2(m, n, k, n * k, m * n, m * n * k)
    tiles = np.ceil(m / 128.0) * np.ceil(n / 128.0) / chip.units
    small = np.ceil(m / 64.0) * np.ceil(n / 128.0) / chip.units
    wide = np.ceil(m / 128.0) * np.ceil(n / 256.0) / chip.units
    tails = np.stack([np.ceil(x) / x for x in (tiles, small, wide)], axis=1)
    names = ("m", "n", "k", "nk", "mn", "mnk", "tail_128x128", "tail_64x128", "tail_128x256")
    return np.concatenate([logs, np.minimum(tails, 8.0)], axis=1), names


def attention_features(
    batch: Array, new: Array, keys: Array, kv_heads: Array, shared: Array, width: Array, chip: Chip
) -> tuple[Array, tuple[str, ...]]:
    """What a residual on attention may look at; `shared` query heads per KV head of `width`."""
    groups = batch * kv_heads
    tiles = groups * shared * np.ceil(new / 128.0) / chip.units
    logs = _log2(
        new, keys, shared, width, groups, groups * keys, groups * shared * new,
        batch, kv_heads, kv_heads * shared,
    )  # fmt: skip
    tail = np.minimum(np.ceil(tiles) / tiles, 8.0)
    names = (
        "new", "keys", "shared", "head_dim", "groups", "cache", "queries",
        "batch", "kv_heads", "heads", "tail",
    )  # fmt: skip
    return np.concatenate([logs, tail[:, None]], axis=1), names


def _features_of_rows(rows: OperatorRows, chip: Chip) -> tuple[Array, tuple[str, ...]]:
    batch, new, keys = (rows.number(name) for name in ("batch", "q_len", "kv_len"))
    kv_heads = rows.number("n_kv_heads")
    shared, width = rows.number("n_heads") / kv_heads, rows.number("head_dim", 128.0)
    return attention_features(batch, new, keys, kv_heads, shared, width, chip)


def _kv_bytes(rows: OperatorRows) -> Array:
    narrow = np.isin(rows.text["kv_dtype"], ("fp8", "int8"))
    widths: Array = np.where(narrow, 1.0, 2.0)
    return widths


def _hot(rows: OperatorRows) -> Array:
    """Copies of the data that a benchmark's replays find in the cache: 1 unless it says cold."""
    copies: Array = np.where(rows.text["cache"] == "cold", 0.0, 1.0)
    return copies


def _decode(rows: OperatorRows, dtype: Format, chip: Chip) -> Shaped:
    batch, keys, heads = (rows.number(name) for name in ("batch", "kv_len", "n_heads"))
    kv_heads, width = rows.number("n_kv_heads"), rows.number("head_dim", 128.0)
    kv_B = _kv_bytes(rows)
    work = DecodeWork(batch, keys, heads, kv_heads, width, kv_B, 2.0, _hot(rows))
    moved_B = 2.0 * batch * kv_heads * keys * width * kv_B
    features, names = _features_of_rows(rows, chip)
    flops = 4.0 * batch * heads * keys * width
    return Shaped(work, flops, moved_B, features, names, _group(heads, kv_heads, batch))


def _prefill(rows: OperatorRows, dtype: Format, chip: Chip) -> Shaped:
    batch, new, keys = (rows.number(name) for name in ("batch", "q_len", "kv_len"))
    heads, kv_heads = rows.number("n_heads"), rows.number("n_kv_heads")
    width, kv_B, past = rows.number("head_dim", 128.0), _kv_bytes(rows), keys - new
    hot = _hot(rows)
    work = PrefillWork(batch, new, past, heads, kv_heads, width, kv_B, 2.0, hot)
    pairs = new * past + new * (new + 1.0) / 2.0
    moved_B = batch * width * (2.0 * kv_heads * keys * kv_B + 4.0 * heads * new)
    features, names = _features_of_rows(rows, chip)
    flops = 4.0 * batch * heads * pairs * width
    return Shaped(work, flops, moved_B, features, names, _group(heads, kv_heads, batch))


def _moe(rows: OperatorRows, dtype: Format, chip: Chip) -> Shaped:
    tokens, experts = rows.number("num_tokens"), rows.number("experts")
    top_k, hidden = rows.number("topk"), rows.number("hidden")
    width = rows.number("inter") / rows.number("tp", 1.0)
    local = experts / rows.number("ep", 1.0)
    routed = tokens * top_k * local / experts
    share = touched_of_rows(rows.text["routing"], tokens, experts, top_k) / experts
    touched = np.clip(local * share, 1.0, np.maximum(routed, 1.0))
    pairs = np.maximum(routed, 1.0)
    work = ExpertWork(
        pairs, touched, hidden, width, dtype.weight_B, dtype.act_B, hot_copies=_hot(rows)
    )
    moved_B = touched * 3.0 * hidden * width * dtype.weight_B
    features = _log2(tokens, local, top_k, hidden, width, routed / touched, moved_B, touched)
    names = ("tokens", "experts", "top_k", "hidden", "width", "rows", "moved", "touched")
    flops = 6.0 * routed * hidden * width
    models = _group(experts, hidden, rows.number("inter"))
    return Shaped(work, flops, moved_B, features, names, models)


_TOUCHES = {"add": 3.0, "act_fn": 3.0, "mlp_act": 3.0, "gelu": 2.0, "softmax": 2.0}
"""16-bit values read and written per value of the result; 2 where not said (norms, copies)."""


def _stream(rows: OperatorRows, dtype: Format, chip: Chip) -> Shaped:
    tokens, width = rows.number("num_tokens"), rows.number("hidden")
    touches = np.asarray([_TOUCHES.get(name, 2.0) for name in rows.text["kernel"]])
    moved_B = tokens * width * touches * dtype.act_B
    work = StreamWork(moved_B, np.ones_like(moved_B))
    features = _log2(tokens, width, moved_B)
    names = ("tokens", "width", "moved")
    single = len(np.unique(width)) < 4  # then token counts are what can be held out
    groups = _group(tokens) if single else _group(width)
    return Shaped(work, np.zeros_like(moved_B), moved_B, features, names, groups)


_SHAPERS: dict[str, Callable[[OperatorRows, Format, Chip], Shaped]] = {
    "gemm": _gemm,
    "attn_decode": _decode,
    "attn_prefill": _prefill,
    "moe": _moe,
    "norm": _stream,
    "elementwise": _stream,
}

FORM_OF = {"norm": "stream", "elementwise": "stream"}
"""Operator classes whose form has another name."""
