"""Builds operators from cases and times them: one builder per operator, in one registry."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analyzer.errors import ConfigError, nearest
from profilers.cases import Case, Failure, Outcome, outcome
from profilers.gauge import PIECES
from profilers.measure import Bench, measure_together
from profilers.operator_attention import attn_decode, attn_prefill
from profilers.operator_gemm import gemm
from profilers.operator_moe import moe
from profilers.operator_scan import ssm_scan, ssm_step
from profilers.operator_vector import VECTORS
from profilers.stopping import Rules
from profilers.work import Work
from profilers.worker import classify, failure

if TYPE_CHECKING:
    from profilers.workbench import Workbench

Builder = Callable[[Mapping[str, Any], "Workbench"], Work]

BUILDERS: dict[str, Builder] = {
    "gemm": gemm,
    "attn_prefill": attn_prefill,
    "attn_decode": attn_decode,
    "moe": moe,
    "ssm_scan": ssm_scan,
    "ssm_step": ssm_step,
    **VECTORS,
    **PIECES,
}


def measure_operators(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Build all, time them in random turns, answer each."""
    works: dict[str, Work] = {}
    benches: list[Bench] = []
    built: dict[str, Case] = {}
    for case in cases:
        try:
            works[case.id] = work = build(case, bench)
            benches.append(_bench(case, work, bench))
            built[case.id] = case
        except (RuntimeError, NotImplementedError, MemoryError, AttributeError, TypeError) as error:
            yield failure(case, error)
            if classify(error) == "crash":
                return
    results = measure_together(benches, bench.kit, rules, seed) if benches else {}
    for case_id, measured in results.items():
        seconds = measured.summary.median_s
        work = works[case_id]
        more = {"arithmetic_FLOP": work.flops, "moved_B": work.moved_B}
        if work.flops:
            more["achieved_FLOPps"] = work.flops / seconds
        if work.moved_B:
            more["bandwidth_Bps"] = work.moved_B / seconds
        yield outcome(built[case_id], measured, more=more, notes=dict(work.notes))


def build(case: Case, bench: Workbench) -> Work:
    """The work of an operator case, run once so that what cannot run fails here."""
    name = str(case.case.get("op", ""))
    if name not in BUILDERS:
        raise ConfigError(f"unknown operator {name!r}{nearest(name, BUILDERS)}")
    work = BUILDERS[name](case.case, bench)
    work.run()
    bench.kit.device.synchronize()
    return work


def _bench(case: Case, work: Work, bench: Workbench) -> Bench:
    run, graph = work.run, False
    if case.case.get("launch") == "graph":
        from profilers.cuda import captured

        run, graph = captured(work.run), True
    return Bench(name=case.id, run=run, cold=case.case.get("cache") == "cold", cuda_graph=graph)
