"""Low-rank adapters that are not merged: a narrow detour beside every linear layer.

Each merged multiplication keeps one pair of matrices per matrix it merges (queries, keys, values;
gate, up). All adapters that are active in a step are read; every token uses one.
"""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.counting.linear import ROUTER
from analyzer.counting.numeric import pick, possible
from analyzer.counting.work import Work
from analyzer.optable import Number, Op

_PIECES = {"attention.qkv": 3.0, "local_attention.qkv": 3.0, "mla.down": 2.0, "ffn.up": 2.0}
_UNADAPTED = frozenset({ROUTER, "mla.kv_up"})


def adapters(work: Work, ops: Sequence[Op]) -> list[Op]:
    """Shrink to the rank and expand again, for all dense linear layers of a layer."""
    layout = work.layout
    rank, active = layout.lora_rank, layout.lora_adapters
    if not possible(rank * active > 0):
        return []
    targets = [op for op in ops if op.kind == "gemm" and op.name not in _UNADAPTED]
    inputs = sum(_PIECES.get(op.name, 1.0) * op.k for op in targets)
    outputs = sum(op.n for op in targets)
    number = float(len(targets))
    return [
        _half(work, "lora.shrink", inputs, number, rank, active),
        _half(work, "lora.expand", outputs, number, rank, active),
    ]


def _half(work: Work, name: str, width: Number, number: float, rank: Number, active: Number) -> Op:
    weights = width * rank
    used = pick(rank * active > 0, 1.0, 0.0)
    return Op(
        name=name,
        kind="grouped_gemm",
        flops=2.0 * work.tokens * weights * used,
        weight_B=active * weights * work.wide_B,
        act_B=work.tokens * (width + rank * number) * work.act_B * used,
        m=work.tokens / pick(active > 0, active, 1.0),
        n=rank,
        k=width,
        groups=active,
        launches=number * used,
        compute=work.layout.attention_compute,
    )
