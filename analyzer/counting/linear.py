"""Matrix multiplications with weights, and what narrow number formats add to them."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.counting.numeric import pick, possible
from analyzer.counting.work import Work, compute_B, narrowed_B
from analyzer.optable import Number, Op

ROUTER = "moe.router"
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
    if possible(layout.dequant_flops != 0):
        flops = sum(_narrow_weights(op) for op in ops) * layout.dequant_flops
        rows.append(Op("dequantise", "elementwise", flops=flops, launches=0.0))
    if possible(layout.quantise_activations != 0):
        rows.append(_narrow_activations(work, [op for op in ops if _is_linear(op)]))
    return rows


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
