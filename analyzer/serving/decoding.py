"""All decoding sequences of one replica as sums, so that a step costs the same for 1 or 1,000.

Time is counted in ticks (decoding steps). When a sequence joins, what it will add at each later
tick — context, blocks — is added to one calendar, and its last tick is noted. A step then reads
one entry; a run of steps without events reads a slice.
"""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from analyzer.serving.options import Speculation
from analyzer.serving.sequence import Sequence

Ints = NDArray[np.int64]


class Decoding:
    """The decoding batch. Context counts keys that the step's queries attend to."""

    def __init__(
        self, block_tokens: int, speculation: Speculation | None, rng: np.random.Generator
    ) -> None:
        self.count = 0
        self.context = 0
        """Keys of all sequences at the last tick done."""
        self.tick = 0
        self._block_tokens = block_tokens
        self._lookahead = speculation.tokens if speculation else 0
        self._acceptance = speculation.acceptance if speculation else 0.0
        self._rng = rng
        self._base = 0
        self._more_context: Ints = np.zeros(4096, dtype=np.int64)
        self._more_blocks: Ints = np.zeros(4096, dtype=np.int64)
        self._ending: dict[int, list[Sequence]] = {}
        self._end_ticks: list[int] = []

    def join(self, sequence: Sequence, context: int, held_blocks: int) -> None:
        """Add a sequence whose cache holds `context` tokens; it wants `sequence.left` more."""
        ticks = self._plan(sequence)
        sequence.home = self
        sequence.joined_tick = self.tick
        sequence.ticks = ticks
        sequence.target = context
        self._reserve(ticks)
        self._enter(sequence, held_blocks, self.tick, +1)
        self.count += 1
        self.context += context
        end = self.tick + ticks
        if end not in self._ending:
            self._ending[end] = []
            heapq.heappush(self._end_ticks, end)
        self._ending[end].append(sequence)

    def leave(self, sequence: Sequence) -> None:
        """Take a sequence out before its end; `sequence.done` is brought up to date."""
        self._enter(sequence, sequence.hold.blocks, self.tick, -1)
        self.count -= 1
        self.context -= self.context_of(sequence)
        sequence.done += self.gained(sequence)
        self._ending[sequence.joined_tick + sequence.ticks].remove(sequence)

    def ticks_to_end(self) -> int:
        """Steps until the next sequence ends (0 if none decodes)."""
        while self._end_ticks and not self._ending.get(self._end_ticks[0]):
            self._ending.pop(heapq.heappop(self._end_ticks), None)
        return self._end_ticks[0] - self.tick if self._end_ticks else 0

    def next_blocks(self) -> int:
        """Blocks that the next step needs."""
        if self.count == 0:
            return 0
        return int(self._more_blocks[self.tick - self._base])

    def next_context(self) -> int:
        """Keys that the next step attends to."""
        if self.count == 0:
            return 0
        return self.context + int(self._more_context[self.tick - self._base])

    def blocks_ahead(self, steps: int) -> Ints:
        """Blocks that each of the next steps needs, summed up to it."""
        start = self.tick - self._base
        return np.cumsum(self._more_blocks[start : start + steps])

    def contexts_ahead(self, steps: int) -> Ints:
        """Keys that each of the next steps attends to."""
        start = self.tick - self._base
        return np.asarray(self.context + np.cumsum(self._more_context[start : start + steps]))

    def advance(self, steps: int) -> list[Sequence]:
        """Do `steps` steps, no more than `ticks_to_end`; return those that ended, oldest first."""
        start = self.tick - self._base
        if steps == 1:
            self.context += int(self._more_context[start])
        else:
            self.context += int(self._more_context[start : start + steps].sum())
        self.tick += steps
        ended = self._ending.pop(self.tick, [])
        for sequence in ended:
            self.count -= 1
            self.context -= self.context_of(sequence)
            sequence.done = sequence.spec.output_tokens
        return ended

    def gained(self, sequence: Sequence) -> int:
        """Answer tokens that the sequence got since it joined."""
        ticks = self.tick - sequence.joined_tick
        if sequence.progress is None or ticks == 0:
            return ticks
        return int(sequence.progress[ticks - 1])

    def context_of(self, sequence: Sequence) -> int:
        """Keys of one sequence at the last tick done."""
        ticks = self.tick - sequence.joined_tick
        if ticks == 0:
            return sequence.target
        if sequence.progress is None:
            return sequence.target + ticks
        before = int(sequence.progress[ticks - 2]) if ticks > 1 else 0
        return sequence.target + before + 1

    def held_blocks(self, sequence: Sequence) -> int:
        """Blocks of one sequence after the last tick done."""
        ticks = self.tick - sequence.joined_tick
        if ticks == 0:
            return sequence.hold.blocks
        tokens = self.context_of(sequence) + self._lookahead
        return max(-(-tokens // self._block_tokens), sequence.hold.blocks)

    def _plan(self, sequence: Sequence) -> int:
        """Draw how the answer grows; the number of steps it takes."""
        left = sequence.left
        if self._lookahead == 0:
            return left
        reject = 1.0 - self._acceptance
        most = self._lookahead + 1
        drawn = self._rng.geometric(reject, left) if reject > 0 else np.full(left, most)
        total = np.cumsum(np.minimum(drawn, most))
        ticks = int(np.searchsorted(total, left)) + 1
        sequence.progress = np.minimum(total[:ticks], left)
        return ticks

    def _enter(self, sequence: Sequence, held: int, tick: int, sign: int) -> None:
        """Add (or take away) a sequence's calendar from `tick` to its end."""
        start = tick - self._base
        stop = sequence.joined_tick + sequence.ticks - self._base
        done = tick - sequence.joined_tick
        if sequence.progress is None:
            self._more_context[start:stop] += sign
            size = self._block_tokens
            # The next block is wanted by the step that brings in token number `held`·size + 1.
            held = max(-(-(sequence.target + done) // size), held)
            first = held * size - sequence.target - done
            self._more_blocks[start + first : stop : size] += sign
            return
        grown = np.empty(sequence.ticks, dtype=np.int64)
        grown[0], grown[1:] = 0, sequence.progress[:-1]
        keys = sequence.target + 1 + grown
        blocks = np.maximum(-(-(keys + self._lookahead) // self._block_tokens), held)
        self._more_context[start:stop] += sign * np.diff(keys, prepend=sequence.target)[done:]
        self._more_blocks[start:stop] += sign * np.diff(blocks, prepend=held)[done:]

    def _reserve(self, ticks: int) -> None:
        """Make room for `ticks` more entries, dropping those that are past."""
        past = self.tick - self._base
        size = len(self._more_context)
        if past + ticks <= size:
            return
        grown = max(size, 1 << (2 * ticks).bit_length())
        for name in ("_more_context", "_more_blocks"):
            old: Ints = getattr(self, name)
            new = np.zeros(grown, dtype=np.int64)
            new[: size - past] = old[past:]
            setattr(self, name, new)
        self._base = self.tick
