"""Profile `memory`: what a model's footprint is made of, each part as a figure of its own.

Weights, cache, logits and live activations are counted by a ledger that sees every tensor; the
allocator's peak beyond them is workspace and rounding; what it holds beyond its peak is reserve; on
a GPU the driver's figure beyond that is context. Two runs tell the logits apart: one keeps those of
the last position, as servers do, the other those of every position, as a plain forward pass does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from analyzer.records import Scenario
from profilers import estimates
from profilers.cases import Case, Failure, Machine, Outcome, Planned
from profilers.generation import rough_generation
from profilers.options import Options
from profilers.scenarios import config_text, model_scenario, models
from profilers.stopping import Rules

if TYPE_CHECKING:
    from profilers.workbench import Workbench

RULES = Rules(min_samples=1, min_time_s=0.0)
BATCHES = {"tiny": (1,), "small": (1, 4), "large": (1, 16)}
PROMPTS = {"tiny": (16,), "small": (128, 512), "large": (1024, 8192)}
OUTPUT = 2
SETUP_S = 1.0


def plan(options: Options, machine: Machine) -> list[Planned]:
    """Every model, batch, length and choice of logits."""
    size = estimates.size_of(options, machine)
    planned = []
    for name, config in models(options, machine):
        for dtype in estimates.model_formats(options, machine)[:1]:
            for batch in options.batches or BATCHES[size]:
                for prompt in options.prompts or PROMPTS[size]:
                    scenario = model_scenario(name, dtype, batch, prompt, OUTPUT)
                    core = (batch, prompt) == (BATCHES[size][0], PROMPTS[size][0])
                    for kept in ("last", "all"):
                        priority = (0 if core else 1) + (kept == "all")
                        planned.append(_planned(scenario, config, kept, machine, priority))
    return planned


def _planned(
    scenario: Scenario, config: dict[str, Any], kept: str, machine: Machine, priority: int
) -> Planned:
    weights_B, kv_B, prefill_s, _ = rough_generation(scenario, config, machine)
    tokens = float(scenario.concurrency or 1) * float(scenario.input_tokens or 1)
    vocab = float(config.get("vocab_size") or 32000)
    logits_B = 4.0 * tokens * vocab if kept == "all" else 0.0
    return Planned(
        case=Case(
            profile="memory",
            kind="memory",
            scenario=scenario,
            case={"logits": kept, "config": config_text(config), "attention": "sdpa"},
        ),
        estimate_s=SETUP_S + estimates.build_s(machine, weights_B) + 3 * prefill_s,
        priority=priority,
        batch=f"memory of {scenario.model}",
        memory_B=1.03 * weights_B + 2.5 * kv_B + logits_B,
    )


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """One model after the other, from an empty allocator."""
    from profilers.memory_work import measure_memory

    return measure_memory(cases, bench)
