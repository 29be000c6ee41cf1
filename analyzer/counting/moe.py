"""Mixture of experts: router, routed experts on the busiest rank, shared experts, all-to-all.

Whole experts are dealt to `ep` groups of ranks and the width of each is cut over the tp/ep ranks of
its group. With all-to-all, every rank sends its own tokens to the groups that hold their experts
and gets the results back; otherwise all ranks see all tokens and the partial sums are reduced.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from analyzer.counting.communication import collective
from analyzer.counting.elementwise import GATED, PLAIN, apply
from analyzer.counting.ffn import feed_forward
from analyzer.counting.linear import ROUTER, linear, wide_linear
from analyzer.counting.numeric import both, larger, negate, pick, possible
from analyzer.counting.routing import Load, busiest_over_mean, distinct_ranks, load
from analyzer.counting.work import Work, narrowed_B
from analyzer.model import MoE
from analyzer.optable import Number, Op

# Per score: read twice, written once in fp32. Per routed row: sorted index and weight.
_SCORE_B, _PLACE_B, _SCORE_FLOPS = 12.0, 24.0, 8.0
_ROUTE_LAUNCHES, _EAGER_ROUTE_LAUNCHES = 4.0, 12.0
# Eager engines visit expert after expert, those without tokens as well.
_EAGER_VISIT_LAUNCHES = 6.0


class Deal(NamedTuple):
    """How experts and tokens lie on the ranks."""

    cut: Number
    """Ranks that one expert's width is cut over."""
    sent: Any
    """Where tokens travel by all-to-all."""
    gathered: Number
    """Groups of attention data parallelism that pool their tokens before the experts."""
    partial: Any
    """Where the local ranks end up with partial sums rather than with tokens of their own."""


def moe(work: Work, kind: MoE) -> list[Op]:
    """The whole layer with its communication."""
    deal = _deal(work, kind)
    layout = work.layout
    busiest = load(
        kind.experts, kind.top_k, work.all_tokens, layout.ep, layout.routing_skew, layout.routing
    )
    if possible(layout.alike != 0):
        one = _of_one_sequence(work, kind)
        busiest = busiest._replace(distinct=pick(layout.alike != 0, one.distinct, busiest.distinct))
    ops = _enter(work, kind, deal)
    ops.append(_router(work, kind))
    ops.append(_route(work, kind, busiest))
    if kind.latent is not None:
        ops.append(linear(work, "moe.latent_down", float(work.hidden), float(kind.latent)))
    ops += _travel(work, kind, deal, busiest)
    if kind.latent is not None:
        ops.append(linear(work, "moe.latent_up", float(kind.latent), float(work.hidden)))
    if kind.shared_width:
        ops += feed_forward(work, "moe.shared", kind.shared_width, kind.gated, kind.bias)
    return [*ops, *_leave(work, deal)]


def _of_one_sequence(work: Work, kind: MoE) -> Load:
    """Load where all sequences are the same text: no more experts are touched than by one."""
    layout, tokens = work.layout, sum(segment.new for segment in work.segments)
    return load(kind.experts, kind.top_k, tokens, layout.ep, layout.routing_skew, layout.routing)


def _deal(work: Work, kind: MoE) -> Deal:
    layout = work.layout
    cut = larger(layout.tp / layout.ep, 1.0)
    sent = both(layout.expert_all_to_all, layout.ep > 1)
    groups = layout.attention_dp
    gathered = pick(sent, larger(groups / layout.ep, 1.0), groups)
    whole = both(sent, cut <= 1)
    return Deal(cut, sent, gathered, True if kind.shared_width else negate(whole))


def _enter(work: Work, kind: MoE, deal: Deal) -> list[Op]:
    """Under sequence parallelism, get all tokens where the columns of a layer need them."""
    payload_B = work.tokens * work.hidden * work.act_B
    active = both(work.scattered, deal.partial)
    return collective("moe.all_gather", "all_gather", payload_B, work.local, active)


def _leave(work: Work, deal: Deal) -> list[Op]:
    """Add partial sums up, or put the ranks' own tokens together again."""
    payload_B = work.tokens * work.hidden * work.act_B
    summed, scattered = both(work.reduced, deal.partial), both(work.scattered, deal.partial)
    joined = both(work.reduced, negate(deal.partial))
    return [
        *collective("moe.all_reduce", "all_reduce", payload_B, work.local, summed),
        *collective("moe.reduce_scatter", "reduce_scatter", payload_B, work.local, scattered),
        *collective("moe.join", "all_gather", payload_B, work.local, joined),
    ]


def _router(work: Work, kind: MoE) -> Op:
    """Scores of all experts, and the gate of the shared experts beside them."""
    scores = float(kind.experts + kind.shared_gate)
    bias = float(kind.experts) if kind.router_bias else 0.0
    hidden = float(work.hidden)
    return wide_linear(work, ROUTER, hidden, scores, work.tokens, work.layout.head_compute, bias)


def _route(work: Work, kind: MoE, busiest: Load) -> Op:
    """Choosing experts, sorting tokens by expert, and the weighted sum of their results."""
    tokens, width = work.tokens, float(kind.latent or work.hidden)
    return Op(
        name="moe.route",
        kind="elementwise",
        flops=_SCORE_FLOPS * tokens * kind.experts + 2.0 * busiest.rows * width,
        act_B=tokens * (kind.experts * _SCORE_B + kind.top_k * _PLACE_B)
        + (busiest.rows + tokens) * width * work.act_B,
        launches=pick(work.fused, _ROUTE_LAUNCHES, _eager_launches(kind))
        + work.layout.expert_kernels / work.layout.kernels,
    )


def _eager_launches(kind: MoE) -> float:
    return _EAGER_ROUTE_LAUNCHES + _EAGER_VISIT_LAUNCHES * kind.experts


def _travel(work: Work, kind: MoE, deal: Deal, busiest: Load) -> list[Op]:
    """Tokens to the experts' ranks, the experts, and the results back."""
    width = float(kind.latent or work.hidden)
    pooled_B = work.tokens * deal.gathered * width * work.act_B
    apart = deal.gathered > 1
    local = work.local
    return [
        *collective("moe.pool", "all_gather", pooled_B, deal.gathered, apart, local),
        *_all_to_all(work, kind, deal, "moe.dispatch", width * work.input_B),
        *_experts(work, kind, deal, busiest, width),
        *_all_to_all(work, kind, deal, "moe.combine", width * work.act_B),
        *collective("moe.unpool", "reduce_scatter", pooled_B, deal.gathered, apart, local),
    ]


def _all_to_all(work: Work, kind: MoE, deal: Deal, name: str, token_B: Number) -> list[Op]:
    """A rank's share of the tokens, once to each rank that holds any of a token's experts. Where
    routing is uneven, the port of the busiest rank sets the time."""
    if not possible(deal.sent):
        return []
    ranks, layout = work.layout.ep, work.layout
    sent = work.all_tokens / ranks * distinct_ranks(kind.experts, kind.top_k, ranks)
    sent = sent * busiest_over_mean(
        kind.experts, kind.top_k, ranks, layout.routing_skew, layout.routing
    )
    return collective(name, "all_to_all", sent * token_B, ranks, deal.sent, deal.cut)


def _experts(work: Work, kind: MoE, deal: Deal, busiest: Load, width: float) -> list[Op]:
    columns = kind.width / deal.cut
    merged = columns * 2.0 if kind.gated else columns
    activation = apply(work, "moe.act", GATED if kind.gated else PLAIN, busiest.rows * columns)
    return [
        _grouped(work, "moe.up", busiest, width, merged, kind.bias),
        activation,
        _grouped(work, "moe.down", busiest, columns, width, kind.bias),
    ]


def _grouped(
    work: Work, name: str, busiest: Load, inputs: Number, outputs: Number, bias: bool
) -> Op:
    """One multiplication per touched expert, `m` rows each on average."""
    layout = work.layout
    weight_B = work.weight_B if layout.expert_weight_B is None else layout.expert_weight_B
    compute = layout.compute if layout.expert_compute is None else layout.expert_compute
    input_B = narrowed_B(work.act_B, compute, layout.quantise_activations)
    weights = inputs * outputs
    biases = outputs * work.wide_B if bias else 0.0
    return Op(
        name=name,
        kind="grouped_gemm",
        flops=2.0 * busiest.rows * weights,
        weight_B=busiest.distinct * (weights * weight_B + biases),
        weight_bits=weight_B * 8.0,
        act_B=busiest.rows * (inputs * input_B + outputs * work.act_B),
        m=busiest.rows / larger(busiest.distinct, 1e-30),
        n=outputs,
        k=inputs,
        groups=busiest.distinct,
        compute=compute,
    )
