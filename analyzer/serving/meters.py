"""What is counted while the simulation runs, in memory that does not grow with it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from analyzer.serving.sketch import Sketch
from analyzer.serving.timeline import Timeline
from analyzer.serving.timers import StepLoad

_FEW = 4


class StepRow(NamedTuple):
    """One kept step: seconds, and what it did."""

    replica: int
    start_s: float
    end_s: float
    prefill_tokens: int
    decode_batch: int
    decode_context: int
    kv_blocks: int


class Meters:
    """Counters of the whole deployment."""

    def __init__(self, timeline_bins: int, keep_steps: int) -> None:
        self.steps = 0
        self.prefill_tokens = 0
        self.preemptions = 0
        self.gaps = Sketch()
        self.timeline = Timeline(timeline_bins)
        self.kept: list[StepRow] = []
        self.most_kv_blocks = 0
        self._keep_steps = keep_steps

    def gap(self, seconds: float, weight: int) -> None:
        """Count the time between two tokens of one request, `weight` times."""
        if weight > 0:
            self.gaps.add(seconds, weight)

    def run(
        self,
        start_s: float,
        ends_s: list[float],
        load: StepLoad,
        late: int,
        blocks: int,
        running: int,
        waiting: int,
        replica: int,
    ) -> None:
        """Account for a run of equal steps."""
        if load.decode_batch:
            self._gaps_of_run(start_s, ends_s, load.decode_batch, late)
        self.work(start_s, ends_s, load, blocks, running, waiting, replica)

    def work(
        self,
        start_s: float,
        ends_s: list[float],
        load: StepLoad,
        blocks: int,
        running: int,
        waiting: int,
        replica: int,
    ) -> None:
        """The same without the gaps between tokens."""
        self.steps += len(ends_s)
        self.most_kv_blocks = max(self.most_kv_blocks, blocks)
        self.timeline.add(start_s, ends_s[-1], (1.0, running, waiting, blocks))
        if len(self.kept) < self._keep_steps:
            self._keep(start_s, ends_s, load, blocks, replica)

    def _gaps_of_run(self, start_s: float, ends_s: list[float], batch: int, late: int) -> None:
        if len(ends_s) <= _FEW:
            self.gap(ends_s[0] - start_s, batch - late)
            for before, after in pairwise(ends_s):
                self.gaps.add(after - before, batch)
        else:
            self.gaps.add_many(np.diff(np.asarray(ends_s), prepend=start_s), batch)

    def _keep(
        self, start_s: float, ends_s: list[float], load: StepLoad, blocks: int, replica: int
    ) -> None:
        for end_s in ends_s[: self._keep_steps - len(self.kept)]:
            self.kept.append(
                StepRow(
                    replica,
                    start_s,
                    end_s,
                    load.prefill_tokens,
                    load.decode_batch,
                    load.decode_context,
                    blocks,
                )
            )
            start_s = end_s
