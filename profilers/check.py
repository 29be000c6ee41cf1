"""Generations that no campaign measures: models, lengths and batches to check a calibration on.

The models, prompts and outputs differ from those of the `generation` profile, and are the same on
every machine, so that nobody chooses them after the fact. Every case is visited `REPEATS` times,
each time in a process of its own with a model built anew, the visits to one case minutes apart: how
far the earlier ones lie from the later ones is the machine's own noise, which no prediction beats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial

import msgspec

from analyzer.records import REPEAT
from profilers import estimates, gauge, generation
from profilers.campaign import CampaignResult, WorkerFactory, measure_planned
from profilers.cases import Machine, Planned
from profilers.device import Clock
from profilers.model_shapes import CHECK_MODELS
from profilers.options import Options
from profilers.progress import Reporter
from profilers.store import read
from profilers.workers import start

REPEATS = {"cpu": 8, "cuda": 2}
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


def round_of(options: Options, machine: Machine, repeat: int) -> list[Planned]:
    """What one repeat measures: the machine's pace, and every generation once."""
    return [*gauge.visit(options, machine, repeat), *plan(options, machine, repeat)]


def rounds(
    options: Options,
    *,
    reporter: Reporter | None = None,
    workers: WorkerFactory | None = None,
    clock: Clock | None = None,
) -> Iterator[CampaignResult]:
    """Measure repeat after repeat, each with worker processes of its own. Of a budget the first
    gets up to half, so that there are two; later ones share what is left as far as whole ones fit.
    """
    left_s, longest_s = options.budget_s, 0.0
    waiting = _emptiest_first(options, REPEATS[_kind(options, workers)])
    for turn, repeat in enumerate(waiting):
        mine_s = None if left_s is None else share_s(left_s, longest_s, len(waiting) - turn)
        mine = msgspec.structs.replace(options, budget_s=mine_s, seed=options.seed + repeat)
        planner = partial(round_of, repeat=repeat)
        found = measure_planned(mine, planner, reporter=reporter, workers=workers, clock=clock)
        yield found
        longest_s = max(longest_s, found.seconds)
        left_s = None if left_s is None else left_s - found.seconds
        if found.interrupted or (left_s is not None and left_s < ROOM * longest_s):
            return


ROOM = 0.7
"""Of a round, what must be left of a budget to begin another."""


def share_s(left_s: float, longest_s: float, waiting: int) -> float:
    """What the next round may take."""
    if not longest_s:
        return left_s / min(2, waiting)
    whole = int(left_s / longest_s)
    return left_s / max(1, min(whole, waiting))


def _emptiest_first(options: Options, repeats: int) -> list[int]:
    """Repeats in the order to take them: what an earlier run has measured comes last."""
    held = Counter(
        int(entry.decode().get("case", {}).get(REPEAT, -1)) for entry in read(options.store).entries
    )
    return sorted(range(repeats), key=lambda repeat: (held[repeat], repeat))


def run(
    options: Options,
    *,
    reporter: Reporter | None = None,
    workers: WorkerFactory | None = None,
    clock: Clock | None = None,
) -> list[CampaignResult]:
    """Measure as many repeats as the budget holds."""
    return list(rounds(options, reporter=reporter, workers=workers, clock=clock))
