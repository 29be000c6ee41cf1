"""Profile `layers`: one decoder layer of any model, from its configuration, with random weights.

The model is built with as few layers as show each kind of layer once; each is called with exactly
what the model hands it, caught on the way. `decode` restores the layer's cache before every call,
so the context does not grow. Weights are cold, since in a whole model the other layers evict them.
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

RULES = Rules(
    min_samples=10,
    min_time_s=0.05,
    max_noise=0.01,
    max_samples=200,
    cap_s=4.0,
    warmup_s=0.5,
    retake_s=2.0,
)
BATCHES = {"tiny": (1,), "small": (1, 8), "large": (1, 16, 64)}
LENGTHS = {"tiny": (8,), "small": (64, 256), "large": (128, 1024, 4096)}
SETUP_S = 0.3


def plan(options: Options, machine: Machine) -> list[Planned]:
    """Prefill and decode of a layer for every model, batch and length."""
    size = estimates.size_of(options, machine)
    planned = []
    for name, config in models(options, machine):
        for dtype in estimates.model_formats(options, machine)[:1]:
            for phase in ("prefill", "decode"):
                for batch in options.batches or BATCHES[size]:
                    for length in options.prompts or LENGTHS[size]:
                        scenario = model_scenario(name, dtype, batch, length)
                        core = (batch, length) == (BATCHES[size][0], LENGTHS[size][-1])
                        priority = 0 if core else 1
                        planned.append(_planned(scenario, config, phase, machine, priority))
    return planned


def _planned(
    scenario: Scenario, config: dict[str, Any], phase: str, machine: Machine, priority: int
) -> Planned:
    weights_B, kv_B, prefill_s, step_s = rough_generation(scenario, config, machine)
    count = float(config.get("num_hidden_layers") or config.get("n_layer") or 1)
    call = (prefill_s if phase == "prefill" else step_s) / count
    setup = SETUP_S + prefill_s / count
    return Planned(
        case=Case(
            profile="layers",
            kind="layer",
            scenario=scenario,
            case={"phase": phase, "config": config_text(config), "attention": "sdpa"},
        ),
        estimate_s=setup + estimates.measuring_s(call, RULES, machine, cold=True),
        priority=priority,
        batch=f"layer of {scenario.model} {scenario.weight_precision}",
        memory_B=3 * (weights_B + kv_B) / count,
    )


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Build the shortened model once and take its cases in random turns."""
    from profilers.layer_work import measure_layers

    return measure_layers(cases, bench, rules, seed)
