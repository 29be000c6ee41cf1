"""One engine over pipeline stages: several batches under way at once, as vLLM V1's batch queue.

Up to as many batches as there are stages are in flight; each holds sequences of its own, which wait
for its end before they are planned again, and the batches end in the order in which they began.
While the newest batch left something over that could run (prompts beyond a step's tokens), the next
one is planned at once; otherwise the engine waits for the oldest batch. A stage works on one batch
at a time.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from analyzer.errors import CapacityError
from analyzer.serving.decoding import Decoding
from analyzer.serving.meters import Meters
from analyzer.serving.options import EngineOptions
from analyzer.serving.replica import Outcome, Replica
from analyzer.serving.sequence import Sequence
from analyzer.serving.timers import StepLoad, StepTimer


class _Batch(NamedTuple):
    start_s: float
    end_s: float
    load: StepLoad
    chunks: list[tuple[Sequence, int]]
    late: list[Sequence]
    lane: int


class PipelinedReplica(Replica):
    """A replica of `options.stages` stages. `decoding` is the lane that is being planned."""

    def __init__(
        self,
        options: EngineOptions,
        timer: StepTimer,
        index: int,
        seed: int,
        meters: Meters,
        prefill_only: bool = False,
    ) -> None:
        super().__init__(options, timer, index, seed, meters, prefill_only)
        self._lanes = [self.decoding]
        for _ in range(options.stages - 1):
            lane = Decoding(options.block_tokens, options.speculation, self._rng)
            self._lanes.append(lane)
        self._answered_s = [0.0] * options.stages
        self._stage_free_s = [0.0] * options.stages
        self._flight: deque[_Batch] = deque()
        self._flying: dict[int, int] = {}
        """Chunks of prompts that are in flight, by request."""
        self._ready = True

    @property
    def idle(self) -> bool:
        """True if the engine plans now: nothing is under way, or a batch has just ended."""
        return self._ready or not self._flight

    def submit(self, sequence: Sequence, now_s: float) -> float | None:
        sequence.replica = self.index
        sequence.queued_s = now_s
        self.waiting.append(sequence)
        return None

    def plan(self, now_s: float) -> float | None:
        """Begin what can begin; when the oldest batch ends, or None if none is under way."""
        self._ready = False
        while len(self._flight) < self.options.stages and self._plan_batch(now_s):
            pass
        return self._flight[0].end_s if self._flight else None

    def commit(self) -> Outcome:
        """End the oldest batch."""
        if not self._flight:
            raise CapacityError("a step was ended that had not begun")
        batch = self._flight.popleft()
        self._ready = True
        self._turn_to(batch.lane)
        self._account_batch(batch)
        finished: list[Sequence] = []
        if batch.load.decode_batch:
            finished = self.decoding.advance(1)
            self._last_answers_s = self._answered_s[batch.lane] = batch.end_s
        for sequence in finished:
            self._settle(sequence)
            self._drop(sequence, self.decoding.context_of(sequence))
        handed_off: list[Sequence] = []
        for sequence, tokens in batch.chunks:
            self._landed(sequence)
            self._computed(sequence, tokens, batch.end_s, finished, handed_off)
        self._last_end_s = batch.end_s
        return Outcome(batch.end_s, finished, handed_off)

    def _turn_to(self, lane: int) -> None:
        self.decoding = self._lanes[lane]
        self._last_answers_s = self._answered_s[lane]

    def _plan_batch(self, now_s: float) -> bool:
        """Plan one more batch; False if nothing can run."""
        lane = self._free_lane()
        self._turn_to(lane)
        preempted = self._room_for_decoding()
        budget = self.options.max_batched_tokens - self.decoding.count * self._queries
        chunks: list[tuple[Sequence, int]] = []
        budget, more = self._continue_prefills(budget, chunks)
        late: list[Sequence] = []
        if not (preempted or more):
            self._admit(budget, chunks, late, now_s)
        if not chunks and self.decoding.count == 0:
            # All were thrown out: begin again, with their blocks free.
            return (preempted or more) and not self._flight and self._plan_batch(now_s)
        self.pool.claim(self.decoding.next_blocks())
        load = self._load(chunks, decodes=True)
        for sequence, tokens in chunks:
            sequence.computed += tokens
            self._flying[sequence.spec.number] = self._flying.get(sequence.spec.number, 0) + 1
        end_s = self._through(now_s, self._timer.step_s(load))
        self._flight.append(_Batch(now_s, end_s, load, chunks, late, lane))
        return True

    def _free_lane(self) -> int:
        """A lane with nothing in flight, one that has sequences before one that has none."""
        taken = {batch.lane for batch in self._flight}
        free = [lane for lane in range(self.options.stages) if lane not in taken]
        return max(free, key=lambda lane: self._lanes[lane].count)

    def _through(self, now_s: float, step_s: float) -> float:
        """Send a batch through the stages; when it leaves the last one."""
        stages = self.options.stages
        slowest_s = step_s * max(self.options.slowest_stage, 1.0 / stages)
        other_s = (step_s - slowest_s) / (stages - 1)
        at_s = now_s
        for stage in range(stages):
            at_s = max(at_s, self._stage_free_s[stage])
            at_s += slowest_s if stage == stages - 1 else other_s
            self._stage_free_s[stage] = at_s
        return at_s

    def _landed(self, sequence: Sequence) -> None:
        left = self._flying[sequence.spec.number] - 1
        if left:
            self._flying[sequence.spec.number] = left
        else:
            del self._flying[sequence.spec.number]

    def _computed(
        self,
        sequence: Sequence,
        tokens: int,
        end_s: float,
        finished: list[Sequence],
        handed_off: list[Sequence],
    ) -> None:
        """A chunk has left the last stage; it was counted as computed when it was planned."""
        if sequence.spec.number in self._flying:
            self._meters.prefill_tokens += tokens
            return
        sequence.computed -= tokens
        super()._computed(sequence, tokens, end_s, finished, handed_off)

    def _victim(self) -> Sequence | None:
        """The youngest that is not in flight: of this lane, or a prompt between two chunks."""
        for number in reversed(self.running):
            sequence = self.running[number]
            if number in self._flying:
                continue
            if sequence.home is self.decoding or sequence in self._prefilling:
                return sequence
        return None

    def _account_batch(self, batch: _Batch) -> None:
        self.steps += 1
        begun_s = max(batch.start_s, self._last_end_s)
        self.busy_s += batch.end_s - begun_s
        for sequence in batch.late:
            self._meters.gap(batch.end_s - sequence.last_token_s, 1)
        self._meters.gap(batch.end_s - batch.start_s, batch.load.decode_batch - len(batch.late))
        self._meters.work(
            begun_s,
            [batch.end_s],
            batch.load,
            self.pool.used,
            len(self.running),
            len(self.waiting),
            self.index,
        )
