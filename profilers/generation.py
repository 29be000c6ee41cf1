"""Profile `generation`: TTFT, TPOT and E2E of whole transformers models in static batches.

A run is one prefill and output − 1 decode steps, greedy, every token brought to the host as a
server would. The loop is ours and does nothing else. `cache` says which cache was used: `dynamic`
grows by copying at each step (transformers' default), `static` is allocated once and, on a GPU,
replayed from a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from analyzer.records import REPEAT, Scenario
from profilers import estimates
from profilers.cases import Case, Failure, Machine, Outcome, Planned
from profilers.model_shapes import rough_active_share, rough_parameters
from profilers.options import Options
from profilers.scenarios import config_text, model_scenario, models
from profilers.stopping import Rules

if TYPE_CHECKING:
    from profilers.workbench import Workbench

RULES = Rules(
    min_samples=5,
    min_time_s=0.05,
    max_noise=0.01,
    max_samples=40,
    cap_s=4.0,
    warmup_s=1.0,
    retake_s=4.0,
)
VISIT_RULES = Rules(
    min_samples=1, min_time_s=0.0, max_noise=0.01, max_samples=6, cap_s=0.25,
    warmup_values=1, warmup_s=0.0, retake_s=2.0,
)  # fmt: skip
"""On a processor a case is visited several times, briefly: on shared hosts speed comes in spells of
tens of seconds, which more samples of one moment would not show."""
VISITS = {"tiny": 2, "small": 8, "large": 4}
BATCHES = {"tiny": (1, 2), "small": (1, 4), "large": (1, 8, 64, 256)}
PROMPTS = {"tiny": (8, 16), "small": (32, 128, 512), "large": (128, 1024, 8192, 32512)}
OUTPUTS = {"tiny": 4, "small": 16, "large": 16}
CORE_PAIRS = {
    "tiny": frozenset({(1, 8), (1, 16), (2, 8)}),
    "small": frozenset({(1, 32), (1, 512), (4, 32)}),
    "large": frozenset({(1, 128), (1, 1024), (8, 1024), (64, 128), (256, 128), (1, 32512)}),
}
"""Batches and prompts that span the grid at a fraction of its cost."""
LONGEST_CORE_RUN_S = {"tiny": 2.0, "small": 2.0, "large": 60.0}
"""Runs that take longer wait until the others are done."""
CPU_PENALTY = 2.0
OPS_PER_LAYER = 30
HOST_OVERHEAD = 3.0
"""What Python adds to the launch of an operator, in launches."""


def plan(options: Options, machine: Machine) -> list[Planned]:
    """Every model, batch and prompt length; on a processor several visits to each."""
    once = plan_once(options, machine)
    if machine.device != "cpu":
        return once
    visits = VISITS[estimates.size_of(options, machine)]
    return [visit(item, number) for number in range(visits) for item in once]


def plan_once(options: Options, machine: Machine) -> list[Planned]:
    """Every model, batch and prompt length that the machine's memory holds."""
    size = estimates.size_of(options, machine)
    output = options.output_tokens or OUTPUTS[size]
    planned = []
    for name, config in models(options, machine):
        for dtype in estimates.model_formats(options, machine):
            for batch in options.batches or BATCHES[size]:
                for prompt in options.prompts or PROMPTS[size]:
                    scenario = model_scenario(name, dtype, batch, prompt, output)
                    for cache in _caches(machine):
                        planned.append(_planned(scenario, config, cache, machine, size))
    return [item for item in planned if item is not None]


def visit(item: Planned, number: int) -> Planned:
    """One of several visits to a case, in a batch of its own."""
    case = msgspec.structs.replace(item.case, case={**item.case.case, REPEAT: number})
    return msgspec.structs.replace(item, case=case, batch=f"{item.batch} {number}")


def _caches(machine: Machine) -> tuple[str, ...]:
    return ("dynamic", "static") if machine.device.startswith("cuda") else ("dynamic",)


def _planned(
    scenario: Scenario, config: dict[str, Any], cache: str, machine: Machine, size: str
) -> Planned | None:
    batch, prompt = float(scenario.concurrency or 1), float(scenario.input_tokens or 1)
    output, dtype = float(scenario.output_tokens or 1), scenario.weight_precision
    if prompt + output > float(config.get("max_position_embeddings") or 1 << 30):
        return None
    weights_B, kv_B, prefill_s, step_s = rough_generation(scenario, config, machine)
    run_s = prefill_s + output * step_s
    core = (batch, prompt) in CORE_PAIRS[size] and run_s <= LONGEST_CORE_RUN_S[size]
    return Planned(
        case=Case(
            profile="generation",
            kind="e2e",
            scenario=scenario,
            case={"config": config_text(config), "cache": cache, "attention": "sdpa"},
        ),
        estimate_s=_estimate_s(run_s, machine) + estimates.build_s(machine, weights_B) / 4,
        priority=(0 if core else 1) + (cache == "static" and (batch, prompt) != (1, 1024)),
        batch=f"{scenario.model} {dtype}",
        memory_B=1.03 * weights_B + 2.1 * kv_B,
    )


def _estimate_s(run_s: float, machine: Machine) -> float:
    """Wall time of a case; on a processor, of a visit: part of a run to warm up, and a run."""
    if machine.device != "cpu":
        return estimates.measuring_s(run_s, RULES, machine)
    return estimates.OVERHEAD_S + run_s / 2 + max(run_s, VISIT_RULES.cap_s)


def rough_generation(
    scenario: Scenario, config: dict[str, Any], machine: Machine
) -> tuple[float, float, float, float]:
    """(weights in bytes, cache in bytes, seconds of prefill, seconds of a step), roughly."""
    dtype = scenario.weight_precision
    width = estimates.FORMAT_B.get(dtype, 2.0)
    parameters = rough_parameters(config)
    active = parameters * rough_active_share(config)
    batch, prompt = float(scenario.concurrency or 1), float(scenario.input_tokens or 1)
    layers = float(config.get("num_hidden_layers") or config.get("n_layer") or 1)
    hidden = float(config.get("hidden_size") or config.get("n_embd") or 1)
    heads = float(config.get("num_attention_heads") or config.get("n_head") or 1)
    kv_share = float(config.get("num_key_value_heads") or heads) / heads
    context = prompt + float(scenario.output_tokens or 1)
    kv_B = 2 * layers * batch * context * hidden * kv_share * width
    attention = 2 * layers * batch * prompt * prompt * hidden
    launches = layers * OPS_PER_LAYER * HOST_OVERHEAD * machine.launch_s
    penalty = CPU_PENALTY if machine.device == "cpu" else 1.0
    flops = 2 * active * batch * prompt + 4 * attention
    prefill_s = penalty * estimates.call_s(machine, dtype, flops, parameters * width) + launches
    moved_B = active * width * (1.0 if batch == 1 else 1.5) + 3 * kv_B
    step_s = penalty * estimates.call_s(machine, dtype, 2 * active * batch, moved_B) + launches
    return parameters * width, kv_B, prefill_s, step_s


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Build each model once and take its cases in random turns."""
    from profilers.generation_work import measure_generations

    return measure_generations(cases, bench, rules, seed)
