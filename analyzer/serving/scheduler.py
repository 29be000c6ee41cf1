"""Who runs in the next step: vLLM V1's rules, on the state of one engine.

Running requests go first: every decoding sequence gets its token(s), then prompts that are partly
computed, then waiting ones in order of arrival as long as tokens, sequences and KV blocks last. If
blocks run out, the youngest running request is thrown back and later recomputed. Other engines
differ in what `EngineOptions` names: prompts in steps of their own, places kept for whole answers.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from analyzer.serving.decoding import Decoding
from analyzer.serving.kv import BlockPool
from analyzer.serving.meters import Meters
from analyzer.serving.options import EngineOptions
from analyzer.serving.sequence import Sequence


class Scheduler:
    """The queue, the running batch and the blocks of one engine."""

    def __init__(self, options: EngineOptions, rng: np.random.Generator, meters: Meters) -> None:
        self.options = options
        self.pool = BlockPool(options.kv_blocks, options.block_tokens, options.prefix_caching)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}
        self.decoding = Decoding(options.block_tokens, options.speculation, rng)
        self._prefilling: list[Sequence] = []
        self._queries = 1 + (options.speculation.tokens if options.speculation else 0)
        self._watermark = int(options.watermark * options.kv_blocks)
        self._meters = meters
        self._rng = rng
        self._last_end_s = 0.0
        self._last_answers_s = 0.0
        """When the last step ended in which answers grew."""
        self._held_up: dict[float, int] = {}
        """Decoding sequences that prompts made wait: by the time of their last token, how many."""
        self._promised = 0

    @property
    def requests(self) -> int:
        """Requests that are here, waiting or running."""
        return len(self.waiting) + len(self.running)

    def accepts(self, sequence: Sequence) -> bool:
        """False for a request that could never be served here."""
        tokens = sequence.spec.input_tokens + sequence.spec.output_tokens
        if tokens > self.options.max_model_tokens:
            return False
        return self.pool.blocks_for(tokens + self._queries) <= self.pool.total

    def _room_for_decoding(self) -> bool:
        """Preempt from the youngest on until every decoding sequence gets its blocks."""
        preempted = False
        while self.decoding.count and self.decoding.next_blocks() > self.pool.available:
            self._preempt_youngest()
            preempted = True
        return preempted

    def _due_blocks(self) -> int:
        """Blocks that the answers of this very step will take."""
        return 0 if self.options.prompts_alone else self.decoding.next_blocks()

    def _continue_prefills(
        self, budget: int, chunks: list[tuple[Sequence, int]]
    ) -> tuple[int, bool]:
        """Next chunks of prompts that are under way; (tokens left, whether any was preempted)."""
        preempted = False
        reserved = self._due_blocks()
        for sequence in tuple(self._prefilling):
            if budget <= 0 or sequence.spec.number not in self.running:
                continue
            if sequence.computed == sequence.target:
                continue  # all of it is planned, and still under way
            chunk = self._chunk(sequence.target - sequence.computed, budget)
            wanted = self.pool.blocks_for(sequence.computed + chunk) - sequence.hold.blocks
            while wanted + reserved > self.pool.available:
                decoding = self.decoding.count
                victim = self._preempt_youngest()
                preempted = preempted or victim is not None
                if victim is None or victim is sequence:
                    break
                if not self.options.prompts_alone:
                    budget += (decoding - self.decoding.count) * self._queries
                reserved = self._due_blocks()
            if sequence.spec.number not in self.running or wanted + reserved > self.pool.available:
                break
            self.pool.take(sequence.hold, max(wanted, 0))
            chunks.append((sequence, chunk))
            budget -= chunk
        return budget, preempted

    def _chunk(self, left: int, budget: int) -> int:
        limit = self.options.long_prefill_tokens
        if 0 < limit < left and self.requests > 1:
            left = limit
        return min(left, budget)

    def _admit(
        self, budget: int, chunks: list[tuple[Sequence, int]], late: list[Sequence], now_s: float
    ) -> None:
        """Take waiting requests in order until tokens, sequences or blocks run out."""
        while self.waiting and budget > 0 and len(self.running) < self.options.max_sequences:
            sequence = self.waiting[0]
            if sequence.computed == sequence.target:
                used = self._admit_transferred(sequence, budget, bool(chunks), late)
            else:
                used = self._admit_prompt(sequence, budget, chunks)
            if used == 0:
                return
            budget -= used
            self.waiting.popleft()
            self.running[sequence.spec.number] = sequence
            if sequence.admitted_s < 0:
                sequence.admitted_s = now_s

    def _admit_prompt(
        self, sequence: Sequence, budget: int, chunks: list[tuple[Sequence, int]]
    ) -> int:
        """Start (or restart) a prompt; tokens of its first chunk, 0 if it does not fit now."""
        pool, size = self.pool, self.options.block_tokens
        chain = sequence.chain
        cached, warm = pool.match(chain, sequence.target - 1) if chain else (0, 0)
        new = sequence.target - cached * size
        if not self.options.chunked_prefill:
            if new > budget and chunks:
                return 0
            budget = max(budget, new)  # one that is longer than a step has a step for itself
        chunk = self._chunk(new, budget)
        first = pool.blocks_for(cached * size + chunk) - cached
        whole = pool.blocks_for(sequence.target) - cached
        wanted = (whole if self.options.reserve_whole_prompt else first) + warm
        if not self._fits(wanted, bool(chunks)) or not self._promise(sequence):
            return 0
        if cached:
            pool.adopt(sequence.hold, chain, cached)
        pool.take(sequence.hold, first)
        sequence.computed = cached * size
        sequence.cached += cached * size
        self._prefilling.append(sequence)
        chunks.append((sequence, chunk))
        return chunk

    def _admit_transferred(
        self, sequence: Sequence, budget: int, others: bool, late: list[Sequence]
    ) -> int:
        """Take a sequence whose cache has come over the network; it decodes in this step."""
        wanted = self.pool.blocks_for(sequence.target + self._queries)
        if budget < self._queries or not self._fits(wanted, others):
            return 0
        if not self._promise(sequence):
            return 0
        self.pool.take(sequence.hold, wanted)
        self.decoding.join(sequence, sequence.target, sequence.hold.blocks)
        late.append(sequence)
        return self._queries

    def _promise(self, sequence: Sequence) -> bool:
        """Set aside what it may take up to its end, if that is asked for and there."""
        if not self.options.reserve_answer:
            return True
        spec = sequence.spec
        most = self.pool.blocks_for(spec.input_tokens + spec.output_tokens + self._queries)
        if self._promised + most > self.pool.total:
            return False
        self._promised += most
        sequence.promised = most
        return True

    def _leave(self, sequence: Sequence) -> None:
        """It runs here no longer."""
        del self.running[sequence.spec.number]
        self._promised -= sequence.promised
        sequence.promised = 0

    def _fits(self, blocks: int, others: bool) -> bool:
        free = self.pool.available - self._due_blocks()
        spare = self._watermark if others or self.decoding.count else 0
        return blocks + spare <= free

    def _victim(self) -> Sequence | None:
        """Who is thrown out next; None if nobody can be now."""
        return self.running[next(reversed(self.running))]

    def _preempt_youngest(self) -> Sequence | None:
        """Throw the youngest running request back into the queue; it will be recomputed."""
        victim = self._victim()
        if victim is None:
            return None
        self._leave(victim)
        if victim in self._prefilling:
            self._prefilling.remove(victim)
            kept = victim.computed
        else:
            kept = self.decoding.context_of(victim)
            self._settle(victim)
            if self.decoding.tick > victim.joined_tick:
                victim.last_token_s = self._last_answers_s
            if victim.last_token_s in self._held_up:
                self._held_up[victim.last_token_s] -= 1
            self.decoding.leave(victim)
        self._release(victim, kept)
        victim.preemptions += 1
        victim.computed = 0
        victim.target = victim.spec.input_tokens + victim.done
        victim.progress = None
        self.waiting.appendleft(victim)
        self._meters.preemptions += 1
        return victim

    def _settle(self, sequence: Sequence) -> None:
        """Book on the sequence the blocks that its decoding has claimed so far."""
        sequence.hold.private += self.decoding.held_blocks(sequence) - sequence.hold.blocks

    def _drop(self, sequence: Sequence, tokens: int) -> None:
        self._leave(sequence)
        self._release(sequence, tokens)

    def _release(self, sequence: Sequence, tokens: int) -> None:
        """Give its blocks back; the whole ones of its `tokens` stay cached under its names."""
        spec, size = sequence.spec, self.options.block_tokens
        named = spec.segments[-1][1] // size if spec.segments else 0
        self.pool.release(sequence.hold, spec.own_key, tokens // size - named)
