"""KV blocks of one replica: who holds them, what is still cached, what can be evicted.

Every block is in one of three states: in use (private to one sequence, or a cached segment that
at least one sequence reads), warm (cached, read by nobody, evictable oldest first) or cold. The
three always add up to the whole. A segment is a named run of blocks: a shared prefix, a turn of a
conversation, or what one request added; its tail is evicted before its head.
"""

from __future__ import annotations

from collections import OrderedDict

from analyzer.workload_arrivals import SegmentKey

Chain = tuple[tuple[SegmentKey, int], ...]


class _Segment:
    __slots__ = ("blocks", "readers")

    def __init__(self, blocks: int, readers: int) -> None:
        self.blocks = blocks
        self.readers = readers


class Hold:
    """What one sequence holds: its private blocks and the segments it reads."""

    __slots__ = ("private", "reads", "shared")

    def __init__(self) -> None:
        self.private = 0
        self.shared = 0
        self.reads: list[SegmentKey] = []

    @property
    def blocks(self) -> int:
        return self.private + self.shared


class BlockPool:
    """The blocks of one replica. All counts are blocks, `ends` of chains are tokens."""

    def __init__(self, total: int, block_tokens: int, caching: bool) -> None:
        self.total = total
        self.block_tokens = block_tokens
        self.caching = caching
        self.used = 0
        self.warm = 0
        self._segments: dict[SegmentKey, _Segment] = {}
        self._oldest_first: OrderedDict[SegmentKey, None] = OrderedDict()

    @property
    def available(self) -> int:
        """Blocks that can be handed out: cold and warm."""
        return self.total - self.used

    def blocks_for(self, tokens: int) -> int:
        """Blocks that hold `tokens`."""
        return -(-tokens // self.block_tokens)

    def match(self, chain: Chain, most_tokens: int) -> tuple[int, int]:
        """(cached blocks at the head of `chain`, how many of them are warm now)."""
        if not self.caching:
            return 0, 0
        limit = most_tokens // self.block_tokens
        found = warm = start = 0
        for key, end in chain:
            segment = self._segments.get(key)
            if segment is None or found >= limit:
                break
            wanted = end // self.block_tokens - start // self.block_tokens
            here = min(segment.blocks, wanted, limit - found)
            found += here
            warm += segment.blocks if segment.readers == 0 else 0
            if here < wanted:
                break
            start = end
        return found, warm

    def adopt(self, hold: Hold, chain: Chain, blocks: int) -> None:
        """Let a new sequence read the first `blocks` of `chain` (as `match` found them)."""
        left, start = blocks, 0
        for key, end in chain:
            if left <= 0:
                break
            wanted = end // self.block_tokens - start // self.block_tokens
            start = end
            if wanted:
                self._read(hold, key)
                left -= wanted
        hold.shared = blocks

    def take(self, hold: Hold, blocks: int) -> None:
        """Give a sequence private blocks; the caller has seen that they are available."""
        hold.private += blocks
        self.claim(blocks)

    def claim(self, blocks: int) -> None:
        """Put blocks to use without naming the holder (who settles with `release`)."""
        self.used += blocks
        shortage = self.used + self.warm - self.total
        if shortage > 0:
            self._evict(shortage)

    def publish(self, hold: Hold, chain: Chain) -> None:
        """After prefill: what the sequence computed of its chain can be read by others."""
        if not self.caching:
            return
        start = 0
        for key, end in chain:
            wanted = end // self.block_tokens - start // self.block_tokens
            start = end
            if key in hold.reads and self._segments[key].readers == 1:
                # Its tail had been evicted; what was computed again makes it whole. With other
                # readers it stays short, or they would hold blocks that they never read.
                self._grow(hold, key, min(wanted - self._segments[key].blocks, hold.private))
            elif 0 < wanted <= hold.private and key not in self._segments:
                self._segments[key] = _Segment(0, 1)
                hold.reads.append(key)
                self._grow(hold, key, wanted)

    def release(self, hold: Hold, tail: SegmentKey | None, tail_blocks: int) -> None:
        """Take back all that a sequence holds.

        `tail` names what it added after its chain: `tail_blocks` whole blocks, which stay cached.
        """
        there = self._segments[tail].blocks if tail in hold.reads else 0
        keep = min(tail_blocks - there, hold.private)
        if self.caching and tail is not None and keep > 0:
            if tail not in self._segments:
                self._segments[tail] = _Segment(0, 1)
                hold.reads.append(tail)
            if tail in hold.reads:
                self._grow(hold, tail, keep)
        self.used -= hold.private
        for key in reversed(hold.reads):
            self._unread(key)
        hold.private = hold.shared = 0
        hold.reads = []

    def _grow(self, hold: Hold, key: SegmentKey, blocks: int) -> None:
        """Turn private blocks of a reader into blocks of the segment."""
        if blocks > 0:
            self._segments[key].blocks += blocks
            hold.private -= blocks
            hold.shared += blocks

    def _read(self, hold: Hold, key: SegmentKey) -> None:
        segment = self._segments[key]
        if segment.readers == 0:
            del self._oldest_first[key]
            self.warm -= segment.blocks
            self.used += segment.blocks
        segment.readers += 1
        hold.reads.append(key)

    def _unread(self, key: SegmentKey) -> None:
        segment = self._segments[key]
        segment.readers -= 1
        if segment.readers == 0:
            self._oldest_first[key] = None
            self.warm += segment.blocks
            self.used -= segment.blocks

    def _evict(self, blocks: int) -> None:
        while blocks > 0:
            key = next(iter(self._oldest_first))
            segment = self._segments[key]
            gone = min(blocks, segment.blocks)
            segment.blocks -= gone
            self.warm -= gone
            blocks -= gone
            if segment.blocks == 0:
                del self._oldest_first[key], self._segments[key]
