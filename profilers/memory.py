"""Profile `memory`: what a model's footprint is made of, each part as a figure of its own.

Weights, cache, logits and live activations are counted by a ledger that sees every tensor; the
allocator's peak beyond them is workspace and rounding; what it holds beyond its peak is reserve; on
a GPU the driver's figure beyond that is context. Two runs tell the logits apart: one keeps those of
the last position, as servers do, the other those of every position, as a plain forward pass does.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analyzer.records import Scalar, Scenario
from profilers import estimates
from profilers.cases import Case, Failure, Machine, Outcome, Planned
from profilers.environment import package_versions
from profilers.generation import rough_generation
from profilers.model_shapes import DEFAULT_MODELS, find_config
from profilers.options import Options
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
    for reference in options.models or DEFAULT_MODELS[size]:
        name, config = find_config(reference)
        for dtype in estimates.model_formats(options, machine)[:1]:
            for batch in options.batches or BATCHES[size]:
                for prompt in options.prompts or PROMPTS[size]:
                    scenario = Scenario(
                        model=name,
                        engine="transformers",
                        engine_version=package_versions().get("transformers", ""),
                        gpus=1,
                        weight_precision=dtype,
                        kv_precision=dtype,
                        concurrency=batch,
                        input_tokens=prompt,
                        output_tokens=OUTPUT,
                    )
                    weights_B, kv_B, prefill_s, _ = rough_generation(scenario, config, machine)
                    vocab = float(config.get("vocab_size") or 32000)
                    for kept in ("last", "all"):
                        logits_B = 2 * batch * prompt * vocab * 2 if kept == "all" else 0.0
                        case: dict[str, Scalar] = {
                            "logits": kept,
                            "config": json.dumps(config, sort_keys=True, separators=(",", ":")),
                            "attention": "sdpa",
                        }
                        planned.append(
                            Planned(
                                case=Case(
                                    profile="memory", kind="memory", scenario=scenario, case=case
                                ),
                                estimate_s=SETUP_S + weights_B / 2e9 + 3 * prefill_s,
                                priority=1 if kept == "last" else 2,
                                batch="",  # a process of its own: an allocator remembers
                                memory_B=1.2 * (weights_B + 2 * kv_B + logits_B),
                            )
                        )
    return planned


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """One model after the other, from an empty allocator."""
    from profilers.memory_work import measure_memory

    return measure_memory(cases, bench)
