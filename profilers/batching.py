"""Which cases of a campaign share a worker, and in what order their batches come."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import msgspec

from analyzer.records import REPEAT
from profilers.cases import Planned

MAX_BATCH = 12


class Batch(msgspec.Struct, frozen=True, kw_only=True):
    """Cases that go to one worker together; `retry`: alone and to a fresh one, for certainty."""

    items: tuple[Planned, ...]
    retry: bool = False

    @property
    def estimate_s(self) -> float:
        return sum(item.estimate_s for item in self.items)

    @property
    def priority(self) -> int:
        return min(item.priority for item in self.items)


def batches(planned: Iterable[Planned], seed: int, room_B: float) -> list[Batch]:
    """Cases that share a worker, by priority and otherwise in random order. Visits to a case come
    in rounds, and where there are any, priorities mix, so that the rounds are spread over all of
    the campaign but what a system file needs first. No batch holds more than `MAX_BATCH` cases or,
    beyond its first, more than `room_B` bytes."""
    groups: dict[tuple[int, str], list[Planned]] = {}
    for item in planned:
        groups.setdefault((item.priority, item.batch or item.case.id), []).append(item)
    order = random.Random(seed)  # noqa: S311 - a schedule, not a secret
    keyed = []
    visits = [turn for items in groups.values() if (turn := _turn(items)) is not None]
    first, turns = min(visits, default=0), 1 + max(visits, default=0) - min(visits, default=0)
    for (priority, _), items in groups.items():
        order.shuffle(items)
        for part in _parts(items, room_B):
            turn, moment = _turn(items), order.random()
            moment = moment if turn is None else (turn - first + moment) / turns
            rank = min(priority, 0) if visits else priority
            keyed.append(((rank, moment), Batch(items=part)))
    return [batch for _, batch in sorted(keyed, key=lambda pair: pair[0])]


def _turn(items: Sequence[Planned]) -> int | None:
    """Which of several visits a batch is; None where its cases are taken once."""
    turn = items[0].case.case.get(REPEAT)
    return None if turn is None else int(turn)


def _parts(items: Sequence[Planned], room_B: float) -> list[tuple[Planned, ...]]:
    parts: list[list[Planned]] = [[]]
    for item in items:
        held_B = sum(other.memory_B for other in parts[-1])
        if parts[-1] and (len(parts[-1]) >= MAX_BATCH or held_B + item.memory_B > room_B):
            parts.append([])
        parts[-1].append(item)
    return [tuple(part) for part in parts]
