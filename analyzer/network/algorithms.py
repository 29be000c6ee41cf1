"""Collectives as schedules of transfers.

Each takes a schedule, a group of ranks, the payload in bytes (as `optable.Op.comm_B` counts it) and
what each rank waits for; it returns what each rank must wait for to have its result. So they chain:
hierarchical forms are one after the other on sub-groups. `pieces` cuts the payload into chunks that
follow one another through the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analyzer.errors import ConfigError, nearest
from analyzer.network.schedule import Done, Schedule, merge, nothing

Group = Sequence[int]
Collective = Callable[[Schedule, Group, float, Done], Done]


def ring_pass(
    schedule: Schedule, group: Group, payload_B: float, after: Done, step: int = 1
) -> Done:
    """n−1 steps in which every rank hands 1/n of the payload to the next: all-gather, or
    reduce-scatter, which sends the same."""
    count = len(group)
    ready = {rank: after[rank] for rank in group}
    for _ in range(count - 1):
        sent = {
            index: schedule.send(
                group[index], group[(index + step) % count], payload_B / count, ready[group[index]]
            )
            for index in range(count)
        }
        ready = {group[(index + step) % count]: (number,) for index, number in sent.items()}
    return ready


def ring_all_reduce(
    schedule: Schedule, group: Group, payload_B: float, after: Done, step: int = 1
) -> Done:
    """Reduce-scatter, then all-gather, round a ring."""
    scattered = ring_pass(schedule, group, payload_B, after, step)
    return ring_pass(schedule, group, payload_B, scattered, step)


def bidirectional_ring_all_reduce(
    schedule: Schedule, group: Group, payload_B: float, after: Done
) -> Done:
    """Half of the payload each way round."""
    ahead = ring_all_reduce(schedule, group, payload_B / 2.0, after)
    back = ring_all_reduce(schedule, group, payload_B / 2.0, after, step=-1)
    return merge(ahead, back)


def halving_pass(schedule: Schedule, group: Group, payload_B: float, after: Done) -> Done:
    """Reduce-scatter by recursive halving: partners far apart first."""
    return _exchange(schedule, group, payload_B, after, _distances(group)[::-1], halving=True)


def doubling_pass(schedule: Schedule, group: Group, payload_B: float, after: Done) -> Done:
    """All-gather by recursive doubling."""
    return _exchange(schedule, group, payload_B, after, _distances(group), halving=False)


def halving_doubling_all_reduce(
    schedule: Schedule, group: Group, payload_B: float, after: Done
) -> Done:
    """Recursive halving, then doubling; the group must be a power of two."""
    scattered = halving_pass(schedule, group, payload_B, after)
    return doubling_pass(schedule, group, payload_B, scattered)


def _distances(group: Group) -> list[int]:
    count = len(group)
    if count & (count - 1):
        raise ConfigError(f"halving and doubling need a power of two of ranks, not {count}")
    return [1 << level for level in range(count.bit_length() - 1)]


def _exchange(
    schedule: Schedule,
    group: Group,
    payload_B: float,
    after: Done,
    distances: list[int],
    halving: bool,
) -> Done:
    ready = {rank: after[rank] for rank in group}
    for level, distance in enumerate(distances):
        held = len(distances) - level if not halving else level + 1
        size_B = payload_B / 2.0**held
        sent = {
            index ^ distance: schedule.send(
                group[index], group[index ^ distance], size_B, ready[group[index]]
            )
            for index in range(len(group))
        }
        ready = {
            group[index]: (number, *_own(ready[group[index]])) for index, number in sent.items()
        }
    return ready


def _own(numbers: tuple[int, ...]) -> tuple[int, ...]:
    """What a rank waited for before; only the last of it can still be open."""
    return numbers[:1]


def direct(schedule: Schedule, group: Group, payload_B: float, after: Done) -> Done:
    """Every rank sends 1/n of the payload straight to every other: all-to-all, and all-gather or
    reduce-scatter in one step. Targets are staggered so that none is hit by all at once."""
    count = len(group)
    arrived: dict[int, list[int]] = {rank: list(after[rank]) for rank in group}
    for offset in range(1, count):
        for index, rank in enumerate(group):
            target = group[(index + offset) % count]
            number = schedule.send(rank, target, payload_B / count, after[rank])
            arrived[target].append(number)
    return {rank: tuple(numbers) for rank, numbers in arrived.items()}


def direct_all_reduce(schedule: Schedule, group: Group, payload_B: float, after: Done) -> Done:
    """Two-shot: scatter and gather in one step each."""
    return direct(schedule, group, payload_B, direct(schedule, group, payload_B, after))


def binomial_all_reduce(schedule: Schedule, group: Group, payload_B: float, after: Done) -> Done:
    """Reduce to the first rank along a binomial tree and broadcast back, payload in one piece."""
    count = len(group)
    ready = {rank: after[rank] for rank in group}
    distances = [1 << level for level in range((count - 1).bit_length())]
    for distance in distances:
        for index in range(0, count - distance, 2 * distance):
            child, parent = group[index + distance], group[index]
            number = schedule.send(child, parent, payload_B, ready[child])
            ready[parent] = (*ready[parent], number)
    done = nothing(group) | {group[0]: ready[group[0]]}
    for distance in distances[::-1]:
        for index in range(0, count - distance, 2 * distance):
            parent, child = group[index], group[index + distance]
            done[child] = (schedule.send(parent, child, payload_B, done[parent]),)
    return done


def double_tree_all_reduce(
    schedule: Schedule, group: Group, payload_B: float, after: Done, pieces: int = 32
) -> Done:
    """Two binary trees, a leaf of one being a node of the other, half of the payload each."""
    if len(group) == 1:
        return {group[0]: after[group[0]]}
    shifted = [*group[1:], group[0]]
    one = _tree_all_reduce(schedule, group, payload_B / 2.0, after, pieces)
    two = _tree_all_reduce(schedule, shifted, payload_B / 2.0, after, pieces)
    return merge(one, two)


def _tree_all_reduce(
    schedule: Schedule, group: Group, payload_B: float, after: Done, pieces: int
) -> Done:
    """Pieces flow up a binary tree and back down, one behind the other.

    A piece may start upwards once the one `window` before it has come back down: without that,
    pieces on their way up would crowd out those on their way down.
    """
    parents = _binary_tree(len(group))
    depths = _depths(parents)
    window = 2 * max(depths) + 2
    upwards = sorted(range(len(group)), key=lambda index: -depths[index])
    down: list[dict[int, tuple[int, ...]]] = []
    for piece in range(pieces):
        back = down[piece - window] if piece >= window else {}
        have = {index: [*after[group[index]], *back.get(index, ())] for index in upwards}
        for index in upwards[:-1]:
            up = schedule.send(group[index], group[parents[index]], payload_B / pieces, have[index])
            have[parents[index]].append(up)
        down.append({upwards[-1]: tuple(have[upwards[-1]])})
        for index in upwards[-2::-1]:
            parent = parents[index]
            sent = schedule.send(
                group[parent], group[index], payload_B / pieces, down[piece][parent]
            )
            down[piece][index] = (sent,)
    return {
        rank: tuple(number for arrived in down for number in arrived[index])
        for index, rank in enumerate(group)
    }


def _binary_tree(count: int) -> list[int]:
    """Parents of an in-order binary tree: odd places are inner nodes; the root's parent is −1."""
    parents = [-1] * count

    def grow(low: int, high: int, parent: int) -> None:
        if low >= high:
            return
        span = 1 << ((high - low).bit_length() - 1)
        root = min(low + span - 1, high - 1) if span > 1 else low
        parents[root] = parent
        grow(low, root, root)
        grow(root + 1, high, root)

    grow(0, count, -1)
    return parents


def _depths(parents: list[int]) -> list[int]:
    depths = []
    for index in range(len(parents)):
        depth, at = 0, index
        while parents[at] >= 0:
            depth, at = depth + 1, parents[at]
        depths.append(depth)
    return depths


def in_pieces(collective: Collective, pieces: int) -> Collective:
    """The same collective in `pieces` chunks that follow one another through its steps."""

    def chunked(schedule: Schedule, group: Group, payload_B: float, after: Done) -> Done:
        parts = [collective(schedule, group, payload_B / pieces, after) for _ in range(pieces)]
        return merge(*parts)

    return chunked


ALL_REDUCE: dict[str, Collective] = {
    "ring": ring_all_reduce,
    "bidirectional_ring": bidirectional_ring_all_reduce,
    "halving_doubling": halving_doubling_all_reduce,
    "direct": direct_all_reduce,
    "binomial": binomial_all_reduce,
    "tree": double_tree_all_reduce,
}
SCATTER: dict[str, Collective] = {
    "ring": ring_pass,
    "halving_doubling": halving_pass,
    "direct": direct,
}
GATHER: dict[str, Collective] = {
    "ring": ring_pass,
    "halving_doubling": doubling_pass,
    "direct": direct,
}
COLLECTIVES: dict[str, dict[str, Collective]] = {
    "all_reduce": ALL_REDUCE,
    "all_gather": GATHER,
    "reduce_scatter": SCATTER,
    "all_to_all": {"direct": direct},
}


def find(kind: str, algorithm: str) -> Collective:
    """The schedule builder of a collective."""
    if kind not in COLLECTIVES:
        raise ConfigError(f"unknown collective {kind!r}{nearest(kind, COLLECTIVES)}")
    known = COLLECTIVES[kind]
    if algorithm not in known:
        raise ConfigError(f"{kind} has no algorithm {algorithm!r}{nearest(algorithm, known)}")
    return known[algorithm]
