"""One peak as its readers see it: the framework's allocator, the driver, the engine's log.

- The allocator's peak (`torch.cuda.max_memory_allocated`, or the sum that llama.cpp prints) counts
  tensors while they live.
- The allocator's reserve (`max_memory_reserved`) is never less; how much more depends on how
  sizes follow one another, and is not predicted for engines that grow their cache as they go.
- The driver (`nvidia-smi`) sees the reserve and what driver and libraries took before it.
- A server sets a share of the memory aside at its start, whatever comes: reserve and driver show
  that pool, and the log says how many tokens of cache it has room for.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from analyzer.engines import EngineClass
from analyzer.memory_parts import RESERVE_B, Memory
from analyzer.phases import Laid
from analyzer.pools import cache_room
from analyzer.workload import Workload


class Peaks(NamedTuple):
    """Bytes on the fullest device under each reading."""

    allocated_B: Any
    driver_B: Any
    """Of an engine without a pool the least that it can be."""
    pool_B: Any
    """What a server sets aside, the driver's share left out; None: it grows as it goes."""
    cache_B: Any
    """What of the pool is left for the cache."""
    cache_tokens: Any
    """Tokens of the cache that a replica has room for, as its log says."""


def peaks(laid: Laid, load: Workload, device_B: float, used: Memory, kind: EngineClass) -> Peaks:
    """All readings of a scenario's peak; `used` is its memory as predicted."""
    allocated_B = used.allocated_B
    if not kind.queues:
        return Peaks(allocated_B, used.total_B, None, None, None)
    seen_B = device_B * kind.memory_share
    room = cache_room(laid, load, seen_B, kind)
    if kind.share_of == "rest":
        seen_B = seen_B + (seen_B - room.bytes) * (1.0 / kind.memory_share - 1.0)
    driver_B = np.maximum(seen_B, used.total_B)
    tokens = room.tokens * laid.plan.attention_dp
    return Peaks(allocated_B, driver_B, seen_B - RESERVE_B, room.bytes, tokens)
