"""One engine in time: steps are planned when they begin and committed when they end.

Steps in which nothing can happen but decoding are planned as one run; an arrival that could be
admitted cuts the run short.
"""

from __future__ import annotations

import bisect
from typing import NamedTuple

import numpy as np

from analyzer.errors import CapacityError
from analyzer.serving.meters import Meters
from analyzer.serving.options import EngineOptions
from analyzer.serving.scheduler import Scheduler
from analyzer.serving.sequence import Sequence
from analyzer.serving.steptimes import RunTimer
from analyzer.serving.timers import StepLoad, StepTimer

LONGEST_RUN = 1024


class Outcome(NamedTuple):
    """What a committed step brought about."""

    end_s: float
    finished: list[Sequence]
    handed_off: list[Sequence]


class _Run(NamedTuple):
    start_s: float
    ends_s: list[float]
    load: StepLoad
    chunks: list[tuple[Sequence, int]]
    late: list[Sequence]
    """Sequences whose last token came before the previous step (they were moved)."""
    closed: bool
    """True: no arrival could be admitted before the run's end."""


class Replica(Scheduler):
    """One engine with its queue, its blocks and its running batch."""

    def __init__(
        self,
        options: EngineOptions,
        timer: StepTimer,
        index: int,
        seed: int,
        meters: Meters,
        prefill_only: bool = False,
    ) -> None:
        super().__init__(options, np.random.default_rng([seed, index]), meters)
        self.index = index
        self.steps = 0
        self.busy_s = 0.0
        self._timer = RunTimer(options, timer)
        self._prefill_only = prefill_only
        self._ahead = 1 if options.host.overlapped else 0
        self._last_begin_s = 0.0
        self._run: _Run | None = None

    @property
    def idle(self) -> bool:
        """True if no step is under way."""
        return self._run is None

    def submit(self, sequence: Sequence, now_s: float) -> float | None:
        """Queue a request; the new end of the current run if that was cut short."""
        sequence.replica = self.index
        sequence.queued_s = now_s
        self.waiting.append(sequence)
        run = self._run
        if run is None or run.closed or len(run.ends_s) == 1:
            return None
        # The step under way, and the next too if that was scheduled when this one began.
        steps = bisect.bisect_left(run.ends_s, now_s) + 1 + self._ahead
        if steps >= len(run.ends_s):
            return None
        self._run = run._replace(ends_s=run.ends_s[:steps])
        return run.ends_s[steps - 1]

    def plan(self, now_s: float) -> float | None:
        """Begin the next step or run; when it ends, or None if there is nothing to do."""
        if not self.waiting and not self.running:
            return None
        alone = self.options.prompts_alone
        budget = self.options.max_batched_tokens
        preempted = False
        if not alone:
            preempted = self._room_for_decoding()
            budget -= self.decoding.count * self._queries
        chunks: list[tuple[Sequence, int]] = []
        budget, more = self._continue_prefills(budget, chunks)
        late: list[Sequence] = []
        unseen = self._unseen(now_s)
        if not (preempted or more or unseen):
            self._admit(budget, chunks, late, now_s)
        if alone and chunks:
            self._hold_up(now_s)
            self._run = self._timed_run(now_s, chunks, late, single=True, decodes=False)
            return self._run.ends_s[-1]
        if alone:
            preempted = self._room_for_decoding()
        if not chunks and self.decoding.count == 0:
            # All were thrown out: begin again, with every block free.
            return self.plan(now_s) if preempted or more else None
        self.pool.claim(self.decoding.next_blocks())
        single = preempted or more or unseen or bool(self._held_up)
        self._run = self._timed_run(now_s, chunks, late, single)
        return self._run.ends_s[-1]

    def _hold_up(self, now_s: float) -> None:
        """Prompts go first: note since when the sequences that decode have had their last token."""
        known = sum(self._held_up.values())
        if self.decoding.count > known:
            self._held_up[now_s] = self.decoding.count - known

    def commit(self) -> Outcome:
        """End the step or run that `plan` began."""
        run = self._run
        if run is None:
            raise CapacityError("a step was ended that had not begun")
        self._run = None
        steps, end_s = len(run.ends_s), run.ends_s[-1]
        self._account(run, steps, end_s)
        if steps > 1:
            self.pool.claim(
                int(self.decoding.blocks_ahead(steps)[-1]) - self.decoding.next_blocks()
            )
        finished: list[Sequence] = []
        if run.load.decode_batch:
            finished = self.decoding.advance(steps)
            self._last_answers_s = end_s
        for sequence in finished:
            self._settle(sequence)
            self._drop(sequence, self.decoding.context_of(sequence))
        handed_off: list[Sequence] = []
        for sequence, tokens in run.chunks:
            self._computed(sequence, tokens, end_s, finished, handed_off)
        self._last_end_s = end_s
        self._last_begin_s = run.ends_s[-2] if steps > 1 else run.start_s
        return Outcome(end_s, finished, handed_off)

    def _unseen(self, now_s: float) -> bool:
        """With asynchronous scheduling: whether the next request came too late for this step.

        The step that follows another without a pause was scheduled when that one began.
        """
        if not (self._ahead and self.waiting and self.running and now_s == self._last_end_s):
            return False
        return self.waiting[0].queued_s > self._last_begin_s

    def free_handed_off(self, sequence: Sequence) -> None:
        """The cache of a handed-off sequence has arrived elsewhere: its blocks are free."""
        self._release(sequence, sequence.spec.input_tokens)

    def _timed_run(
        self,
        now_s: float,
        chunks: list[tuple[Sequence, int]],
        late: list[Sequence],
        single: bool,
        decodes: bool = True,
    ) -> _Run:
        load = self._load(chunks, decodes)
        if chunks or late or single:
            return _Run(now_s, [now_s + self._timer.step_s(load)], load, chunks, late, True)
        closed = bool(self.waiting) or len(self.running) >= self.options.max_sequences
        steps = self._steps_without_event()
        if steps == 1:
            ends = [now_s + self._timer.step_s(load)]
        else:
            ends = self._timer.run_ends(now_s, load, self.decoding.contexts_ahead(steps))
        return _Run(now_s, ends, load, chunks, late, closed)

    def _steps_without_event(self) -> int:
        """Decoding steps until a sequence ends or the blocks run out."""
        steps = min(self.decoding.ticks_to_end(), LONGEST_RUN)
        if steps == 1:
            return 1
        ahead = self.decoding.blocks_ahead(steps)
        # The first step's blocks have been claimed already.
        free = self.pool.available + self.decoding.next_blocks()
        if ahead[-1] <= free:
            return steps
        return max(int(np.searchsorted(ahead, free, side="right")), 1)

    def _load(self, chunks: list[tuple[Sequence, int]], decodes: bool) -> StepLoad:
        tokens = context = 0
        pairs = 0.0
        for sequence, new in chunks:
            past = sequence.computed
            tokens += new
            context += past + new
            pairs += new * past + new * (new + 1) / 2
        batch = self.decoding.count if decodes else 0
        return StepLoad(
            tokens,
            pairs,
            context,
            len(chunks),
            batch,
            batch * self._queries,
            self.decoding.next_context() if decodes else 0,
            self._timer.padding(tokens + batch * self._queries),
        )

    def _computed(
        self,
        sequence: Sequence,
        tokens: int,
        end_s: float,
        finished: list[Sequence],
        handed_off: list[Sequence],
    ) -> None:
        """A chunk is done; after the last one there is a token."""
        sequence.computed += tokens
        self._meters.prefill_tokens += tokens
        if sequence.computed < sequence.target:
            return
        self._prefilling.remove(sequence)
        sequence.done += 1
        if sequence.first_token_s < 0:
            sequence.first_token_s = end_s
        else:
            self._meters.gap(end_s - sequence.last_token_s, 1)
        sequence.last_token_s = end_s
        self.pool.publish(sequence.hold, sequence.chain)
        if sequence.left == 0:
            self._drop(sequence, sequence.target)
            finished.append(sequence)
        elif self._prefill_only:
            self._leave(sequence)
            handed_off.append(sequence)
        else:
            self.decoding.join(sequence, sequence.target, sequence.hold.blocks)

    def _account(self, run: _Run, steps: int, end_s: float) -> None:
        self.steps += steps
        self.busy_s += end_s - run.start_s
        for sequence in run.late:
            self._meters.gap(run.ends_s[0] - sequence.last_token_s, 1)
        late = len(run.late)
        if run.load.decode_batch:
            late += self._catch_up(run.ends_s[0])
        self._meters.run(
            run.start_s,
            run.ends_s,
            run.load,
            late,
            self.pool.used,
            len(self.running),
            len(self.waiting),
            self.index,
        )

    def _catch_up(self, end_s: float) -> int:
        """Count the gaps of sequences that had to wait for prompts; how many those were."""
        counted = 0
        for since_s, count in self._held_up.items():
            self._meters.gap(end_s - since_s, count)
            counted += count
        self._held_up.clear()
        return counted
