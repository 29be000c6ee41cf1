"""Routed experts: a gated feed-forward layer whose tokens go to different weight matrices.

`grouped_mm` multiplies all experts in one call, as fused engines do; `loop` calls one product per
expert, as eager code does. Routing is uniform at random and sorted beforehand: the router and the
gather are operators of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from profilers.work import Work

if TYPE_CHECKING:
    from profilers.workbench import Workbench


def moe(case: Mapping[str, Any], bench: Workbench) -> Work:
    """Gate, up and down projections of all routed pairs."""
    torch = bench.torch
    tokens, experts, top_k = int(case["num_tokens"]), int(case["experts"]), int(case["topk"])
    hidden, inter, dtype = int(case["hidden"]), int(case["inter"]), str(case["dtype"])
    chosen = torch.rand(tokens, experts).topk(top_k, dim=-1).indices.flatten()
    counts = torch.bincount(chosen, minlength=experts)
    pairs = tokens * top_k
    rows = bench.normal(pairs, hidden, dtype=dtype)
    gate_up = bench.normal(experts, hidden, 2 * inter, dtype=dtype, scale=hidden**-0.5)
    down = bench.normal(experts, inter, hidden, dtype=dtype, scale=inter**-0.5)
    touched = int((counts > 0).sum())
    if case["variant"] == "loop":
        run = _loop(bench, rows, gate_up, down, [int(count) for count in counts])
    else:
        ends = counts.cumsum(0).to(torch.int32).to(bench.device)
        run = _grouped(bench, rows, gate_up, down, ends)
    weight_B = touched / experts * (gate_up.nbytes + down.nbytes)
    return Work(
        run=run,
        flops=6.0 * pairs * hidden * inter,
        moved_B=weight_B + 2.0 * rows.nbytes,
        notes={"touched_experts": touched},
    )


def _grouped(
    bench: Workbench, rows: Any, gate_up: Any, down: Any, ends: Any
) -> Callable[[], object]:
    multiply = bench.torch._grouped_mm
    silu = bench.torch.nn.functional.silu

    def run() -> object:
        gate, up = multiply(rows, gate_up, offs=ends).chunk(2, dim=-1)
        return multiply(silu(gate) * up, down, offs=ends)

    return run


def _loop(
    bench: Workbench, rows: Any, gate_up: Any, down: Any, counts: list[int]
) -> Callable[[], object]:
    silu = bench.torch.nn.functional.silu

    def run() -> object:
        results, start = [], 0
        for expert, count in enumerate(counts):
            if count:
                part = rows[start : start + count]
                gate, up = (part @ gate_up[expert]).chunk(2, dim=-1)
                results.append((silu(gate) * up) @ down[expert])
                start += count
        return bench.torch.cat(results)

    return run
