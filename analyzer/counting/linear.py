"""Matrix multiplications with weights, and what narrow number formats add to them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analyzer.counting.numeric import ceil, pick, possible
from analyzer.counting.work import Work, compute_B, narrowed_B
from analyzer.optable import Number, Op
from analyzer.unpacking import AS_STORED, Kernel, Unpacking

ROUTER = "moe.router"
_WIDE_B = 2.0
_STORED_NARROW = 15.0
"""Bits per weight below which a matrix is stored narrow."""
_QUANTISE_FLOPS = 3.0
"""Vector operations per activation narrowed: magnitude, scale, round."""


def linear(
    work: Work,
    name: str,
    inputs: Number,
    outputs: Number,
    *,
    rows: Number | None = None,
    bias: Number = 0.0,
    pieces: float = 1.0,
) -> Op:
    """A linear layer `inputs` → `outputs` over the step's tokens, in the layout's weight format.

    `pieces` is how many matrices an eager engine keeps apart where servers merge them.
    """
    rows = work.tokens if rows is None else rows
    weights = inputs * outputs
    weight_B = work.weight_B
    return Op(
        name=name,
        kind="gemm",
        flops=2.0 * rows * weights,
        weight_B=weights * weight_B + bias * work.wide_B,
        act_B=rows * (inputs * work.input_B + outputs * work.act_B),
        m=rows,
        n=outputs,
        k=inputs,
        launches=pick(work.fused, 1.0, pieces) if pieces != 1.0 else 1.0,
        compute=work.layout.compute,
        weight_bits=weight_B * 8.0,
        vector_flops=on_vector_units(work.layout.unpacking, rows, 2.0 * rows * weights),
        input_major=pick(work.fused, 0.0, 1.0) if work.model.input_major else 0.0,
    )


def wide_linear(
    work: Work,
    name: str,
    inputs: Number,
    outputs: Number,
    rows: Number,
    compute: Number,
    bias: Number = 0.0,
    weight_B: Number | None = None,
) -> Op:
    """A linear layer that quantised formats leave as it is: router, language-model head.

    `weight_B`: bytes per weight where they are not those of the embedding.
    """
    weights = inputs * outputs
    weight_B = work.layout.embedding_B if weight_B is None else weight_B
    return Op(
        name=name,
        kind="gemm",
        flops=2.0 * rows * weights,
        weight_B=weights * weight_B + bias * work.wide_B,
        act_B=rows * (inputs + outputs) * work.act_B,
        m=rows,
        n=outputs,
        k=inputs,
        compute=compute,
        weight_bits=weight_B * 8.0,
    )


def quantisation(work: Work, ops: Sequence[Op]) -> list[Op]:
    """What narrow formats cost beside the layer's multiplications: widening of weights inside the
    kernels, narrowing of activations before them."""
    layout = work.layout
    rows = []
    if layout.unpacking != AS_STORED and not layout.unpacking.inside:
        rows += _unpacked(layout.unpacking, [op for op in ops if _is_linear(op)])
    if possible(layout.quantise_activations != 0):
        rows.append(_narrow_activations(work, [op for op in ops if _is_linear(op)]))
    return rows


def widened(work: Work, ops: Sequence[Op]) -> list[Op]:
    """The operators with the vector work that a pipelined kernel does on weights on their way."""
    kind = work.layout.unpacking
    if not kind.inside:
        return list(ops)
    return [
        op._replace(vector_flops=op.vector_flops + _narrow_weights(op) * kind.few.flops)
        if _is_linear(op)
        else op
        for op in ops
    ]


def _unpacked(kind: Unpacking, ops: Sequence[Op]) -> list[Op]:
    """Widening of weights, in the kernels that multiply and in those that only write them out."""
    flops: Number = 0.0
    written: Number = 0.0
    launches: Number = 0.0
    for op in ops:
        weights, few = _narrow_weights(op), op.m <= kind.rows
        flops = flops + weights * pick(
            few, _per_weight(kind.few, op.m), _per_weight(kind.many, op.m)
        )
        out = pick(few, float(kind.few.written), float(kind.many.written))
        written = written + weights * out
        launches = launches + pick(
            op.weight_bits < _STORED_NARROW, op.launches * (kind.launches + out), 0.0
        )
    moved_B = written * 2.0 * _WIDE_B  # written, and read by the product
    return [Op("dequantise", "elementwise", flops=flops, act_B=moved_B, launches=launches)]


def _per_weight(kernel: Kernel, rows: Number) -> Number:
    """Vector operations to widen one weight as often as the kernel does."""
    return kernel.flops * (ceil(rows / kernel.tile) if math.isfinite(kernel.tile) else 1.0)


def on_vector_units(kind: Unpacking, rows: Number, flops: Number) -> Number:
    """What vector units do of a product."""
    if not kind.few.vector and not kind.many.vector:
        return 0.0
    return flops * pick(rows <= kind.rows, kind.few.vector, kind.many.vector)


def _narrow_activations(work: Work, ops: Sequence[Op]) -> Op:
    """What narrow multiplications read, read wide and written narrow, one kernel before each."""
    wanted, act_B = work.layout.quantise_activations, work.act_B
    values: Number = 0.0
    moved_B: Number = 0.0
    launches: Number = 0.0
    for op in ops:
        narrow_B = narrowed_B(act_B, op.compute, wanted)
        narrowed = narrow_B < act_B
        inputs = pick(narrowed, op.m * op.k * op.groups, 0.0)
        values = values + inputs
        moved_B = moved_B + inputs * (act_B + narrow_B)
        launches = launches + pick(narrowed, 1.0, 0.0)
    flops = _QUANTISE_FLOPS * values
    return Op("quantise", "elementwise", flops=flops, act_B=moved_B, launches=launches)


def _is_linear(op: Op) -> bool:
    return op.kind in ("gemm", "grouped_gemm") and op.name != ROUTER


def _narrow_weights(op: Op) -> Number:
    """Weights of the operator that are stored in fewer bits than they are computed in."""
    if not _is_linear(op):
        return 0.0
    narrow = op.weight_bits < 8.0 * compute_B(op.compute)
    return pick(narrow, op.n * op.k * op.groups, 0.0)
