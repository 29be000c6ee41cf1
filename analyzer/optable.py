"""Counted work: one row per operator of a step, on one device, before any machine is named.

Every column has shape (operators, *scenarios). A row is what ONE execution of the operator does on
ONE device; `repeat` says how often the step executes it (usually the number of like layers).
Nothing here depends on a machine: `timing` turns an OpTable into seconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError

Number = Any
"""A float, or an array that broadcasts against the scenarios."""

KINDS = (
    "gemm",  # dense matrix multiplication: m rows of activations, weights n×k
    "grouped_gemm",  # routed experts: `groups` weight matrices that were touched
    "attention",  # scores and values over cached keys; prefill and decode alike
    "scan",  # recurrences: state-space and linear-attention state updates
    "elementwise",  # norms, RoPE, activation, residual, routing, sampling, cache writes
    "embedding",  # gathers rows of a table
    "collective",  # communication between ranks
)
KIND_INDEX = {kind: index for index, kind in enumerate(KINDS)}

COLLECTIVES = ("none", "all_reduce", "all_gather", "reduce_scatter", "all_to_all", "p2p")
COLLECTIVE_INDEX = {name: index for index, name in enumerate(COLLECTIVES)}

COMPUTE = ("fp32", "tf32", "bf16", "fp16", "fp8", "int8", "fp6", "fp4", "int4", "fp8-block")
COMPUTE_INDEX = {name: float(index) for index, name in enumerate(COMPUTE)}


class Op(NamedTuple):
    """One counted operator. All byte and FLOP figures are per device and per execution."""

    name: str
    kind: str
    repeat: Number = 1.0
    flops: Number = 0.0
    """2 per multiply-add of matrix multiplications; in `elementwise` rows one per operation."""
    weight_B: Number = 0.0
    weight_bits: Number = 16.0
    """Bits that one weight takes in memory, or one cached value in attention; narrow kernels stream
    less well than wide ones."""
    act_B: Number = 0.0
    """Activations read and written."""
    kv_B: Number = 0.0
    """KV cache or recurrent state read and written."""
    m: Number = 1.0
    """Rows that share one weight matrix (tokens of the step; of one touched expert in
    `grouped_gemm`); query tokens per sequence in attention and scans."""
    n: Number = 1.0
    """Columns of the result; keys in reach in attention."""
    k: Number = 1.0
    """Reduction length; head size in attention."""
    groups: Number = 1.0
    """Independent problems: touched experts, or sequences × KV heads in attention."""
    heads_per_group: Number = 1.0
    """Query heads that share one KV head, in attention."""
    comm_B: Number = 0.0
    """Payload per rank: the whole tensor for all_reduce, the gathered result for all_gather, the
    input for reduce_scatter, the whole send buffer (own share included) for all_to_all, the
    message for p2p. 0 where `ranks` is 1."""
    ranks: Number = 1.0
    stride: Number = 1.0
    """Distance between neighbouring ranks of the group; says whether the group leaves a node."""
    collective: str = "none"
    launches: Number = 1.0
    compute: Number = 2.0
    """Format of the arithmetic, as its index in COMPUTE (2: bf16)."""
    vector_flops: Number = 0.0
    """Vector work inside the same kernel (softmax, decays), which matrix units do not do."""
    unsplit_flops: Number = 0.0
    """Those of `lone_flops` whose keys no kernel splits among several processors."""
    input_major: Number = 0.0
    """1 where a linear layer's weights lie input by input, as transformers keeps GPT-2's."""
    lone_flops: Number = 0.0
    """Of `flops`, attention's on one query token per head: a vector, not a matrix, to multiply."""


COLUMNS = tuple(field for field in Op._fields if field not in {"name", "kind", "collective"})


class OpTable(NamedTuple):
    """Columns of counted work, shape (operators, *scenarios) when read as `table.flops`.

    `columns` holds them compactly: an axis along which a column does not vary has length 1 there.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    collectives: tuple[str, ...]
    columns: Columns
    shape: tuple[int, ...]
    """Shape of the scenarios."""
    blocks: tuple[OpTable, ...] = ()
    """The same rows apart, those that vary along few axes and those that vary along all, where
    that saves work; their columns are then built first and this table's only when read."""

    def __getattr__(self, name: str) -> NDArray[np.float64]:
        try:
            column = self.columns[name]
        except KeyError:
            raise AttributeError(name) from None
        full = (len(self.names), *self.shape)
        return column if column.shape == full else np.broadcast_to(column, full)

    @property
    def bytes_moved_B(self) -> NDArray[np.float64]:
        """Bytes to and from memory per execution."""
        columns = self.columns
        moved = columns["weight_B"] + columns["act_B"] + columns["kv_B"]
        return np.broadcast_to(moved, (len(self.names), *self.shape))

    def reduce(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum over the operators."""
        total: NDArray[np.float64] = values.sum(axis=0)
        return total if total.shape == self.shape else np.broadcast_to(total, self.shape)

    def total(self, column: str) -> NDArray[np.float64]:
        """The column summed over operators, with repeats."""
        total: NDArray[np.float64] = (self.columns[column] * self.columns["repeat"]).sum(axis=0)
        return np.broadcast_to(total, self.shape)


def stack(ops: Sequence[Op], repeats: Sequence[Number] | None = None) -> OpTable:
    """Rows to columns; scalars and arrays broadcast together. `repeats` replaces the rows' own."""
    for op in ops:
        if op[1] not in KIND_INDEX or op.collective not in COLLECTIVE_INDEX:
            raise ConfigError(
                f"operator {op.name!r} has unknown kind {op.kind!r}/{op.collective!r}"
            )
    fields = [*zip(*ops, strict=True)] if ops else [()] * len(Op._fields)
    values = dict(zip(Op._fields, fields, strict=True))
    if repeats is not None:
        values["repeat"] = tuple(repeats)
    plain = _scalars(values)
    if plain is not None:
        return _table(values, plain, ())
    columns = _Columns(values)
    return _table(values, columns, columns.shape, _blocks(values, columns.shape))


Columns = dict[str, NDArray[np.float64]]
Values = dict[str, tuple[Any, ...]]

_WORTH_SPLITTING = 1024
"""Numbers in a column below which two tables cost more than one that is too wide."""


def _table(
    values: Values, columns: Columns, shape: tuple[int, ...], blocks: tuple[OpTable, ...] = ()
) -> OpTable:
    return OpTable(values["name"], values["kind"], values["collective"], columns, shape, blocks)


def _scalars(values: Values) -> Columns | None:
    """All columns in one conversion; None where there are arrays among them."""
    if any(isinstance(value, np.ndarray) for field in _VARYING for value in values[field]):
        return None
    try:
        block = np.array([values[field] for field in COLUMNS], dtype=np.float64)
    except ValueError:
        return None
    return dict(zip(COLUMNS, block, strict=True)) if block.ndim == 2 else None


_VARYING = ("flops", "act_B", "ranks")
"""Columns in which arrays show at once, if there are any."""


def _rows(values: Values) -> Iterator[tuple[Number, ...]]:
    return zip(*(values[field] for field in COLUMNS), strict=True)


class _Columns(Columns):
    """Columns that are laid out when they are first read."""

    def __init__(self, values: Values, axes: int = 0) -> None:
        super().__init__()
        self._values = values
        self._own = {field: _own_shape(values[field]) for field in COLUMNS}
        self.shape = np.broadcast_shapes((1,) * axes, *set(self._own.values()))

    def __missing__(self, field: str) -> NDArray[np.float64]:
        if field not in COLUMNS:
            raise KeyError(field)
        column = _column(self._values[field], self._own[field], len(self.shape))
        self[field] = column
        return column

    def __iter__(self) -> Iterator[str]:
        return iter(COLUMNS)

    def __len__(self) -> int:
        return len(COLUMNS)

    def items(self) -> Any:
        """Every column, laid out."""
        return [(field, self[field]) for field in COLUMNS]

    def values(self) -> Any:
        """Every column, laid out."""
        return [self[field] for field in COLUMNS]


def _blocks(values: Values, shape: tuple[int, ...]) -> tuple[OpTable, ...]:
    """Rows that vary along few axes, and the others; empty where that is not worth while."""
    size = math.prod(shape)
    if size < _WORTH_SPLITTING:
        return ()
    shapes = [_own_shape(row) for row in _rows(values)]
    narrow = [index for index, own in enumerate(shapes) if 2 * math.prod(own) <= size]
    wide = [index for index, own in enumerate(shapes) if 2 * math.prod(own) > size]
    union = np.broadcast_shapes(*(shapes[index] for index in narrow))
    if not narrow or not wide or 2 * math.prod(union) > size:
        return ()
    return tuple(_block(values, rows, len(shape)) for rows in (narrow, wide))


def _block(values: Values, rows: list[int], axes: int) -> OpTable:
    chosen = {name: tuple(column[row] for row in rows) for name, column in values.items()}
    columns = _Columns(chosen, axes)
    return _table(chosen, columns, columns.shape)


def _own_shape(values: tuple[Number, ...]) -> tuple[int, ...]:
    shapes = {getattr(value, "shape", ()) for value in values}
    return shapes.pop() if len(shapes) == 1 else np.broadcast_shapes(*shapes)


def _column(values: tuple[Number, ...], own: tuple[int, ...], axes: int) -> NDArray[np.float64]:
    shape = (1,) * (axes - len(own)) + own
    if not own:
        return np.array(values, dtype=np.float64).reshape(len(values), *shape)
    column = np.empty((len(values), *shape))
    for row, value in zip(column, values, strict=True):
        row[...] = value
    return column
