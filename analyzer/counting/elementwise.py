"""Vector work between the matrix multiplications: norms, residuals, RoPE, gates.

A fused kernel reads its inputs and writes its outputs once. An eager engine launches a kernel per
primitive and passes intermediate tensors, some of them in fp32, through memory. `Cost` holds, per
value of the tensor, how many passes (in units of `act_B`), vector operations and launches each way.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzer.counting.numeric import pick
from analyzer.counting.work import Work
from analyzer.model import Layer
from analyzer.optable import Number, Op


class Cost(NamedTuple):
    """Cost of one primitive per value."""

    flops: float
    passes: float
    launches: float
    eager_passes: float
    eager_launches: float


# Eager RMS norm: widen (1 in, 2 out), square (2, 2), mean (2), scale (2, 2), narrow (2, 1),
# weight (1, 1); fp32 intermediates count as two 16-bit passes.
NORM = Cost(flops=4.0, passes=2.0, launches=1.0, eager_passes=20.0, eager_launches=8.0)
# torch has layer norm as one kernel; a layer norm has a bias, which tells it from an RMS norm.
LAYER_NORM = NORM._replace(eager_passes=2.0, eager_launches=1.0)
# The residual add rides in the next norm's kernel (2 passes more); alone it takes 3.
RESIDUAL = Cost(flops=1.0, passes=2.0, launches=0.0, eager_passes=3.0, eager_launches=1.0)
# Eager RoPE: x·cos (2), negate half (1), concatenate (2), ·sin (2), add (3).
ROPE = Cost(flops=3.0, passes=2.0, launches=1.0, eager_passes=10.0, eager_launches=10.0)
# Gated activation, per value of the product: 2 in, 1 out; eager writes act(gate) and reads it back.
GATED = Cost(flops=6.0, passes=3.0, launches=1.0, eager_passes=5.0, eager_launches=2.0)
PLAIN = Cost(flops=6.0, passes=2.0, launches=1.0, eager_passes=2.0, eager_launches=1.0)


def plain(kernels: int) -> Cost:
    """An activation that an eager engine does in so many kernels: each reads a tensor and writes
    one; of several, the last ones join two tensors (GPT-2's GELU: x³ to x, the gate to x)."""
    if kernels == 1:
        return PLAIN
    return PLAIN._replace(eager_passes=2.0 * kernels + 2.0, eager_launches=float(kernels))


def passes(work: Work, cost: Cost) -> Number:
    """Bytes moved per value of the tensor."""
    return pick(work.fused, cost.passes, cost.eager_passes) * work.act_B


def launches(work: Work, cost: Cost) -> Number:
    """Kernels launched."""
    return pick(work.fused, cost.launches, cost.eager_launches)


def apply(work: Work, name: str, cost: Cost, values: Number) -> Op:
    """One primitive over `values` values."""
    return Op(
        name=name,
        kind="elementwise",
        flops=cost.flops * values,
        act_B=values * passes(work, cost),
        launches=launches(work, cost),
    )


def norms(work: Work, layer: Layer) -> list[Op]:
    """Normalisations and residual adds of one layer, as one row."""
    adds = (layer.mixer is not None) + (layer.ffn is not None) + (layer.beside is not None)
    if not layer.norms and not adds:
        return []
    streams = float(work.model.residual_streams)
    values = work.norm_tokens * work.hidden
    norm = norm_of(layer.norms, layer.norm_params, work.hidden)
    per_value = layer.norms * passes(work, norm) + adds * streams * passes(work, RESIDUAL)
    row = Op(
        name="norms",
        kind="elementwise",
        flops=values * (layer.norms * NORM.flops + adds * RESIDUAL.flops),
        weight_B=layer.norm_params * work.wide_B,
        act_B=values * per_value,
        launches=layer.norms * launches(work, norm) + adds * launches(work, RESIDUAL),
    )
    return [row]


def norm_of(count: int, parameters: int, hidden: int) -> Cost:
    """Cost of one of `count` norms over `hidden` values that have `parameters` together."""
    return LAYER_NORM if count and parameters >= 2 * count * hidden else NORM
