"""Generations that no campaign measures: models, lengths and batches to check a calibration on.

The models, prompts and outputs differ from those of the `generation` profile, and are the same on
every machine, so that nobody chooses them after the fact. Every case is visited `REPEATS` times,
each time in a process of its own with a model built anew, the visits to one case minutes apart: how
far the earlier ones lie from the later ones is the machine's own noise, which no prediction beats.
"""

from __future__ import annotations

from functools import partial

import msgspec

from profilers import estimates, generation
from profilers.campaign import CampaignResult, WorkerFactory, measure_planned
from profilers.cases import Machine, Planned
from profilers.device import Clock
from profilers.model_shapes import CHECK_MODELS
from profilers.options import Options
from profilers.progress import Reporter
from profilers.workers import start

REPEATS = {"cpu": 4, "cuda": 2}
"""By kind of device. Processors share their host with strangers and need more."""
PAIRS = {
    "tiny": ((1, 12), (2, 10)),
    "small": ((1, 64), (1, 256), (2, 64)),
    "large": ((1, 512), (16, 512), (4, 4096)),
}
"""Batches and prompts. Models begin with different ones, so that a small budget sees them all."""
OUTPUTS = {"tiny": 6, "small": 20, "large": 32}


def plan(options: Options, machine: Machine, repeat: int) -> list[Planned]:
    """One repeat: every model in every format, batch and length."""
    size = estimates.size_of(options, machine)
    chosen = msgspec.structs.replace(
        options,
        models=options.models or CHECK_MODELS[size],
        output_tokens=options.output_tokens or OUTPUTS[size],
    )
    asked = tuple((batch, prompt) for batch in options.batches for prompt in options.prompts)
    pairs = asked or PAIRS[size]
    planned = []
    for rank in range(len(pairs)):
        for turn, model in enumerate(chosen.models):
            batch, prompt = pairs[(turn + rank) % len(pairs)]
            one = msgspec.structs.replace(
                chosen, models=(model,), batches=(batch,), prompts=(prompt,)
            )
            planned += [
                _repeated(item, repeat)
                for item in generation.plan_once(one, machine)
                if item.memory_B < machine.memory_B
            ]
    return planned


def _repeated(item: Planned, repeat: int) -> Planned:
    """What a budget cannot hold falls from the end of the list; of one priority, so that all cases
    of a model share its building."""
    return msgspec.structs.replace(generation.visit(item, repeat), priority=0)


def _kind(options: Options, workers: WorkerFactory | None) -> str:
    """`cpu` or `cuda`; where the user left it open, a worker says what it found."""
    if options.device != "auto":
        return options.device.partition(":")[0]
    worker = workers() if workers else start(options.device, options.threads, options.store)
    try:
        return worker.describe().machine.device.partition(":")[0]
    finally:
        worker.close()


def run(
    options: Options,
    *,
    reporter: Reporter | None = None,
    workers: WorkerFactory | None = None,
    clock: Clock | None = None,
) -> list[CampaignResult]:
    """Measure all repeats, each with worker processes of its own and its share of the budget."""
    repeats = REPEATS[_kind(options, workers)]
    share_s = None if options.budget_s is None else options.budget_s / repeats
    done = []
    for repeat in range(repeats):
        mine = msgspec.structs.replace(options, budget_s=share_s, seed=options.seed + repeat)
        planner = partial(plan, repeat=repeat)
        found = measure_planned(mine, planner, reporter=reporter, workers=workers, clock=clock)
        done.append(found)
        if found.interrupted:
            break
    return done
