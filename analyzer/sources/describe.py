"""A counted operator as the kernel work that measured rows are about.

Formats are matched by what is computed and stored: "bf16 weights, bf16 arithmetic" finds rows of
bf16 or fp16. What has no measured counterpart (scans, latent attention, collectives) is None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from analyzer.optable import COMPUTE, OpTable
from analyzer.sources.operator_work import attention_features, format_of, gemm_features
from analyzer.timing.kernels.common import Array, Chip
from analyzer.timing.kernels.decode import DecodeWork
from analyzer.timing.kernels.experts import ExpertWork
from analyzer.timing.kernels.gemm import GemmWork
from analyzer.timing.kernels.prefill import PrefillWork

_MATCHES = {
    ("bf16", 16): ("bf16", "fp16"),
    ("fp16", 16): ("fp16", "bf16"),
    ("fp32", 32): ("fp32",),
    ("fp8", 8): ("fp8", "fp8_block"),
    ("fp8-block", 8): ("fp8_block", "fp8"),
    ("int8", 8): ("sq", "int8"),
    ("bf16", 8): ("int8_wo",),
    ("fp16", 8): ("int8_wo",),
    ("bf16", 4): ("int4_wo",),
    ("fp16", 4): ("int4_wo",),
    ("fp4", 4): ("nvfp4", "mxfp4"),
}
KV_HEADS = (8.0, 2.0)
"""Ways to deal groups into sequences × KV heads; an operator only says their product, so what
depends on the way is averaged over these."""


class Described(NamedTuple):
    """One operator, its scenarios flattened."""

    op: str
    dtypes: tuple[str, ...]
    """Measured formats that it may be read from, best first."""
    kv_dtype: str
    work: Any
    coordinates: tuple[Array, ...]
    """Columns by COORDINATES of its class, as logarithms; one array per way to read it."""
    shape: tuple[int, ...] = ()
    """Scenarios in which the operator differs: axes along which it is the same have length 1."""
    share: float = 1.0
    """Of the measured kernel's time, where an operator is only a part of that kernel."""

    @property
    def scenarios(self) -> int:
        """How many there are."""
        return len(self.coordinates[0])


COORDINATES: dict[str, tuple[str, ...]] = {
    "gemm": ("m", "n", "k"),
    "attn_decode": ("batch", "keys", "kv_heads", "shared", "head_dim"),
    "attn_prefill": ("batch", "new", "keys", "kv_heads", "shared", "head_dim"),
    "moe": ("rows", "touched", "hidden", "width"),
    "norm": ("tokens", "width"),
    "elementwise": ("tokens", "width"),
}
"""The features that span a class: what neighbours are near in."""

NEARNESS: dict[str, tuple[float, ...]] = {"gemm": (2.0, 1.0, 0.7)}
"""How far apart an octave of each coordinate puts two shapes, where not 1: rows of a matrix
multiplication change its time's regime sooner than its reduction does."""


def scaled(op: str, coordinates: Array, nearness: tuple[float, ...] | None = None) -> Array:
    """Coordinates in which neighbours are looked for."""
    usual = NEARNESS.get(op, (1.0,) * coordinates.shape[1])
    factors = np.asarray(usual if nearness is None else nearness)
    stretched: Array = coordinates * factors
    return stretched


Columns = dict[str, Array]
_READ = ("m", "n", "k", "groups", "heads_per_group", "compute", "weight_bits")


def describe(table: OpTable, index: int) -> Described | None:
    """The operator at this row of the table, or None where no measured class is like it."""
    reader = _READERS.get(table.kinds[index])
    if reader is None:
        return None
    columns = {name: _own(table.columns[name], index) for name in _READ}
    compute, bits = _one(columns.pop("compute")), _one(columns.pop("weight_bits"))
    if compute is None or bits is None:
        return None
    shape = np.broadcast_shapes(*(column.shape for column in columns.values()))
    flat = {name: np.broadcast_to(column, shape).ravel() for name, column in columns.items()}
    described = reader(table.names[index], flat, COMPUTE[int(compute)], bits)
    return None if described is None else described._replace(shape=shape)


def _own(column: Array, index: int) -> Array:
    """One operator's cells, an axis along which they are all alike cut to length 1."""
    cells: Array = column[index if len(column) > 1 else 0]
    for axis, length in enumerate(cells.shape):
        if length > 1:
            first = cells.take([0], axis=axis)
            if np.array_equal(np.broadcast_to(first, cells.shape), cells):
                cells = first
    return cells


def _one(values: Array) -> float | None:
    """The value that all scenarios share."""
    first = values.flat[0] if values.size else np.nan
    return float(first) if np.all(values == first) else None


def _log2(*columns: Array) -> Array:
    logs: Array = np.log2(np.maximum(np.stack(columns, axis=1), 2.0**-20))
    return logs


def _gemm(_name: str, column: Columns, arithmetic: str, bits: float) -> Described | None:
    stored = min((4, 8, 16, 32), key=lambda width: abs(width - bits))
    dtypes = _MATCHES.get((arithmetic, stored), ())
    m, n, k = (np.maximum(column[name], 1e-9) for name in ("m", "n", "k"))
    if not dtypes:
        return None
    measured = format_of(dtypes[0])
    work = GemmWork(m, n, k, measured.weight_B, measured.act_B, 2.0, measured.narrowed)
    return Described("gemm", dtypes, "", work, (_log2(m, n, k),))


def _attention(_name: str, column: Columns, arithmetic: str, bits: float) -> Described | None:
    if arithmetic not in ("bf16", "fp16"):
        return None
    kv_dtype = "fp8" if bits < 12 else "bf16"
    new, keys, groups = column["m"], column["n"], column["groups"]
    shared, width = column["heads_per_group"], column["k"]
    kv_B = 1.0 if kv_dtype == "fp8" else 2.0
    if np.all(new == 1.0):
        decoded = DecodeWork(groups, keys, shared, 1.0, width, kv_B, 2.0)
        ways = tuple(
            _log2(groups / count, keys, np.full_like(keys, count), shared, width)
            for count in kv_head_counts(groups)
        )
        return Described("attn_decode", ("bf16", "fp16"), kv_dtype, decoded, ways)
    if np.any(new == 1.0):
        return None
    past = np.maximum(keys - new, 0.0)
    work = PrefillWork(groups, new, past, shared, 1.0, width, kv_B, 2.0)
    ways = tuple(
        _log2(groups / count, new, keys, np.full_like(keys, count), shared, width)
        for count in kv_head_counts(groups)
    )
    return Described("attn_prefill", ("bf16", "fp16"), kv_dtype, work, ways)


_PART_OF_LAYER = {"up": 2.0 / 3.0, "down": 1.0 / 3.0}
"""Of a fused layer of gated experts, what its merged first and its last multiplication stand for:
two and one of three matrices of a size."""


def _experts(name: str, column: Columns, arithmetic: str, bits: float) -> Described | None:
    """Grouped multiplications are read from rows of the whole fused layer, by their share of it."""
    stored = min((4, 8, 16, 32), key=lambda width: abs(width - bits))
    dtypes = _MATCHES.get((arithmetic, stored), ())
    part = name.rpartition(".")[2]
    if not dtypes or part not in _PART_OF_LAYER:
        return None
    rows, touched = (np.maximum(column[name], 1e-9) for name in ("m", "groups"))
    hidden, width = (column["k"], column["n"] / 2.0) if part == "up" else (column["n"], column["k"])
    measured = format_of(dtypes[0])
    work = ExpertWork(rows * touched, touched, hidden, width, measured.weight_B, measured.act_B)
    ways = (_log2(rows, touched, hidden, width),)
    return Described("moe", dtypes, "", work, ways, share=_PART_OF_LAYER[part])


_READERS: dict[str, Callable[[str, Columns, str, float], Described | None]] = {
    "gemm": _gemm,
    "attention": _attention,
    "grouped_gemm": _experts,
}


def kv_head_counts(groups: Array) -> list[float]:
    """The ways that leave at least one sequence in every scenario."""
    return [count for count in KV_HEADS if np.all(groups >= count)] or [1.0]


def features_of(described: Described, chip: Chip) -> list[Array]:
    """Feature rows for a residual; several where the operator leaves open how it is cut, none where
    it does not say all that a residual looks at."""
    work = described.work
    if described.op == "moe":
        return []
    if described.op == "gemm":
        return [gemm_features(work.m, work.n, work.k, chip)[0]]
    decode = described.op == "attn_decode"
    groups = np.asarray(work.sequences, dtype=float)
    new = np.ones_like(groups) if decode else work.new
    keys = work.keys if decode else work.past + work.new
    return [
        attention_features(
            groups / count, new, keys, np.full_like(groups, count), work.heads, work.head_dim, chip
        )[0]
        for count in kv_head_counts(groups)
    ]
