"""Both ends of a model: token and position look-up; final norm, head and sampling."""

from __future__ import annotations

from analyzer.counting.communication import collective, gather_tokens, sum_partials
from analyzer.counting.elementwise import apply, norm_of
from analyzer.counting.linear import linear, wide_linear
from analyzer.counting.numeric import pick
from analyzer.counting.work import Work
from analyzer.model import Linear
from analyzer.optable import Op

# Sampling, per logit: widen to fp32 (read, write 4 B), softmax (read 4, write 4), draw (read 4).
_SAMPLING_B = 16.0
_SAMPLING_FLOPS = 8.0
_SAMPLING_LAUNCHES, _EAGER_SAMPLING_LAUNCHES = 4.0, 8.0


def enter(work: Work) -> list[Op]:
    """From token ids to hidden states; the vocabulary is cut over the local ranks."""
    model, layout = work.model, work.layout
    width = model.embedding_dim or work.hidden
    looked_up = (width + sum(table.width for table in model.tables)) / work.local
    kinds = 1.0 + len(model.tables)
    if model.learned_positions:
        looked_up, kinds = looked_up + work.hidden, kinds + 1.0
    row = Op(
        name="embedding",
        kind="embedding",
        weight_B=work.tokens * looked_up * layout.embedding_B,
        act_B=work.tokens * width * work.act_B * kinds,
        m=work.tokens,
        n=float(width),
        launches=kinds,
        weight_bits=layout.embedding_B * 8.0,
    )
    return [row, *sum_partials(work, "embedding"), *projections(work, model.linears, "model")]


def leave(work: Work) -> list[Op]:
    """From hidden states to sampled tokens, on the positions that need it."""
    model, layout = work.model, work.layout
    width = float(model.embedding_dim or work.hidden)
    rows = work.logit_rows
    columns = model.vocab / work.local
    bias = columns if model.lm_head_bias else 0.0
    head = wide_linear(work, "head", width, columns, rows, layout.head_compute, bias, layout.head_B)
    logits = rows * model.vocab
    return [
        *final_norm(work),
        *gather_tokens(work, "final"),
        head,
        *collective(
            "head.all_gather", "all_gather", logits * work.act_B, work.local, work.local > 1
        ),
        Op(
            name="sampling",
            kind="elementwise",
            flops=_SAMPLING_FLOPS * logits,
            act_B=logits * (_SAMPLING_B + work.act_B),
            launches=pick(work.fused, _SAMPLING_LAUNCHES, _EAGER_SAMPLING_LAUNCHES),
        ),
    ]


def final_norm(work: Work) -> list[Op]:
    """The normalisation before the head, on all tokens as engines do it."""
    if not work.model.final_norm_params:
        return []
    norm = norm_of(1, work.model.final_norm_params, work.hidden)
    row = apply(work, "final_norm", norm, work.norm_tokens * work.hidden)
    return [row._replace(weight_B=work.model.final_norm_params * work.wide_B)]


def projections(work: Work, linears: tuple[Linear, ...], prefix: str) -> list[Op]:
    """Matrix multiplications beside mixers and FFNs; every local rank holds them whole."""
    return [
        linear(
            work,
            f"{prefix}.linear",
            float(item.inputs),
            float(item.outputs),
            bias=float(item.outputs) if item.bias else 0.0,
        )
        for item in linears
    ]
