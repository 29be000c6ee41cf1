"""Simulate a server under a load: what requests see when they share an engine.

  plumbline simulate --model llama-3-8b --system H100-SXM --rate 8 --input 64-2048 --output 200
  plumbline simulate --model llama-3-8b --system H100-SXM --rate 8 --slo ttft=1,tpot=0.05 --highest
  plumbline simulate --model llama-3.1-8b --system RTX4090 --trace requests.csv --kv-blocks 2570 \\
      --max-num-batched-tokens 2048 --max-num-seqs 256 --requests-out times.csv

A trace names its columns arrival_time_s, input_tokens, output_tokens. Times are in seconds.
"""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction, Namespace
from contextlib import ExitStack
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError
from analyzer.records_engine import engine_class
from reports.commands.load_options import declare_load, declare_slo, load_of, slo_of
from reports.commands.options import (
    basis_of,
    declare_basis,
    declare_plan,
    declare_question,
    model_of,
    plan_of,
    system_of,
)
from reports.console import show, write_json

if TYPE_CHECKING:
    from analyzer.serving.deployment import Deployment, Limits
    from analyzer.serving.options import SimOptions
    from analyzer.workload_load import Load
    from reports.simulation import Simulated

USUAL_ENGINE = "vllm"
KEPT = 100_000
"""Requests whose times are kept; of more, percentiles come from a sketch (0.1 %)."""
MOST_ROWS = 10_000_000
"""With --requests-out all are kept."""


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    declare_question(parser)
    declare_load(parser)
    _declare_limits(parser)
    many = parser.add_argument_group("deployment")
    many.add_argument("--replicas", type=int, default=1, metavar="N", help="times --dp")
    many.add_argument("--router", metavar="NAME",
                      help="round_robin, least_loaded (vLLM's own, between the ranks of --dp and "
                      "--attention-dp), prefix_aware")  # fmt: skip
    many.add_argument("--prefill-replicas", type=int, metavar="N", help="of them, only prompts")
    many.add_argument("--kv-link-gbytes", type=float, default=25.0, metavar="GB/S",
                      help="over which caches go from prompts to decoding")  # fmt: skip
    declare_plan(parser)
    declare_basis(parser)
    goal = parser.add_argument_group("promises")
    declare_slo(parser)
    goal.add_argument("--highest", action="store_true", help="the highest rate that keeps --slo")
    goal.add_argument("--attainment", type=float, default=0.99, metavar="P",
                      help="share of the requests that must keep it")  # fmt: skip
    shown = parser.add_argument_group("output")
    shown.add_argument("--requests-out", metavar="FILE", help="CSV: times of every request")
    shown.add_argument("--timeline-out", metavar="FILE", help="CSV: what ran and waited when")
    shown.add_argument("--json", action="store_true", help="one JSON document on one line")


def _declare_limits(parser: ArgumentParser) -> None:
    group = parser.add_argument_group("engine limits (best from its own log)")
    group.add_argument("--kv-blocks", type=int, metavar="N",
                       help="usable ones of a replica; default: what memory leaves")  # fmt: skip
    group.add_argument("--block-size", type=int, default=16, metavar="TOKENS")
    group.add_argument("--max-num-batched-tokens", type=int, metavar="N")
    group.add_argument("--max-num-seqs", type=int, metavar="N")
    group.add_argument("--max-model-len", type=int, metavar="TOKENS")
    group.add_argument("--gpu-memory-utilization", type=float, default=0.9, metavar="SHARE")
    group.add_argument("--engine-version", default="", metavar="V",
                       help="its habits, such as 0.11.0; default: the newest")  # fmt: skip
    group.add_argument("--prefix-caching", action=BooleanOptionalAction,
                       help="default: as the engine does")  # fmt: skip
    group.add_argument("--chunked-prefill", action=BooleanOptionalAction,
                       help="default: as the engine does")  # fmt: skip
    group.add_argument("--async-scheduling", action=BooleanOptionalAction,
                       help="plan a step while one runs; default: as the engine does")  # fmt: skip
    group.add_argument("--request-s", type=float, metavar="S",
                       help="from arrival to the queue; default: as fitted")  # fmt: skip


def run(options: Namespace) -> None:
    """Simulate and print; files are written only if all went well."""
    from reports.files import replacing
    from reports.simulation import document, summary, write_requests, write_timeline

    with ExitStack() as files:
        requests = options.requests_out and files.enter_context(replacing(options.requests_out))
        timeline = options.timeline_out and files.enter_context(replacing(options.timeline_out))
        found = _simulated(options)
        if requests:
            write_requests(requests, found.result.request_times)
        if timeline:
            write_timeline(timeline, found.result)
    if options.json:
        write_json(document(found))
    else:
        show(*summary(found))


def _simulated(options: Namespace) -> Simulated:
    from analyzer.serving import max_rate, simulate
    from analyzer.serving.deployment import deploy
    from analyzer.serving.habits import version_of
    from reports.simulation import Simulated

    load = load_of(options)
    model = model_of(options)
    system, recognised = system_of(options)
    options.engine = options.engine or USUAL_ENGINE
    if options.engine_version:
        version_of(options.engine_version)
        options.engine = engine_class(options.engine, options.engine_version)
    basis = basis_of(options, system, "poisson")
    deployed = deploy(model, system, plan_of(options, model), basis, _limits(options))
    chosen = _sim_options(options, load, deployed)
    highest = None
    if options.highest:
        highest = max_rate(chosen, deployed.timer, attainment=options.attainment)
    result = simulate(chosen, deployed.timer)
    warnings = (*recognised, *basis.warnings)
    return Simulated(model, system, basis, deployed, chosen, result, highest, warnings)


def _limits(options: Namespace) -> Limits:
    from analyzer.serving.deployment import Limits

    share = options.gpu_memory_utilization
    if not 0 < share <= 1:
        raise ConfigError(f"--gpu-memory-utilization must lie in (0, 1], not {share:g}")
    return Limits(
        kv_blocks=options.kv_blocks,
        block_tokens=options.block_size,
        max_batched_tokens=options.max_num_batched_tokens or options.chunk,
        max_sequences=options.max_num_seqs,
        max_model_tokens=options.max_model_len,
        memory_share=share,
        engine_version=options.engine_version,
        prefix_caching=options.prefix_caching,
        chunked_prefill=options.chunked_prefill,
        asynchronous=options.async_scheduling,
        request_s=options.request_s,
    )


def _sim_options(options: Namespace, load: Load, deployed: Deployment) -> SimOptions:
    from analyzer.serving.options import Disaggregation, SimOptions

    split = None
    if options.prefill_replicas is not None:
        split = Disaggregation(
            prefill_replicas=options.prefill_replicas,
            kv_token_B=deployed.kv_token_B,
            link_Bps=options.kv_link_gbytes * 1e9,
        )
    if options.replicas < 1:
        raise ConfigError(f"--replicas must be at least 1, not {options.replicas}")
    return SimOptions(
        load=load,
        engine=deployed.engine,
        replicas=options.replicas * deployed.replicas,
        router=options.router or deployed.router,
        disaggregation=split,
        slo=slo_of(options),
        keep_requests=MOST_ROWS if options.requests_out else KEPT,
    )
