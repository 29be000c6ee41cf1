"""Collectives between the ranks of a replica.

Ranks are numbered with tensor parallelism innermost: the `local` ranks that share one group of
sequences are neighbours (stride 1), the groups of attention data parallelism lie `local` apart, and
the ranks that deal out experts lie tp/ep apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzer.counting.numeric import pick, possible
from analyzer.counting.work import Work
from analyzer.optable import Number, Op

_FP32_B = 4.0


def collective(
    name: str, kind: str, payload_B: Number, ranks: Number, active: Any, stride: Number = 1.0
) -> list[Op]:
    """One collective where `active` holds; no row where it holds nowhere."""
    if not possible(active):
        return []
    if active is not True:
        payload_B = pick(active, payload_B, 0.0)
        ranks = pick(active, ranks, 1.0)
    op = Op(
        name=name,
        kind="collective",
        comm_B=payload_B,
        ranks=ranks,
        stride=stride,
        collective=kind,
        launches=pick(active, 1.0, 0.0),
    )
    return [op]


def gather_tokens(work: Work, name: str) -> list[Op]:
    """Sequence parallelism: every rank gets all tokens before a layer that is cut by columns."""
    payload_B = work.tokens * work.hidden * work.act_B
    return collective(f"{name}.all_gather", "all_gather", payload_B, work.local, work.scattered)


def sum_partials(work: Work, name: str) -> list[Op]:
    """Add up what the local ranks computed of the residual stream."""
    payload_B = work.tokens * work.hidden * work.act_B
    return [
        *collective(f"{name}.all_reduce", "all_reduce", payload_B, work.local, work.reduced),
        *collective(
            f"{name}.reduce_scatter", "reduce_scatter", payload_B, work.local, work.scattered
        ),
    ]


def join(work: Work, name: str, ops: Sequence[Op]) -> list[Op]:
    """Bring together what the ranks computed of one block, made of `ops`."""
    if not work.layout.gathers_products:
        return sum_partials(work, name)
    gathers = []
    for op in ops:
        if op.kind == "gemm":
            payload_B = op.m * _whole(work, op) * _FP32_B
            active = work.reduced
            gathers += collective(f"{op.name}.gather", "all_gather", payload_B, work.local, active)
    return gathers


def _whole(work: Work, op: Op) -> Number:
    """Columns of a product over all ranks: cut by columns where the inputs are whole."""
    return pick(op.k == float(work.hidden), op.n * work.local, op.n)


def stage_transfer(work: Work) -> Op:
    """Hidden states handed to the next pipeline stage, each rank sending its share."""
    payload_B = work.tokens * work.hidden * work.act_B / work.local
    return Op("pipeline.send", "collective", comm_B=payload_B, ranks=2.0, collective="p2p")
