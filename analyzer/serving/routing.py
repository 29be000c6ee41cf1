"""Which replica gets a request: one function per policy, chosen by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from analyzer.serving.replica import Replica
from analyzer.workload_arrivals import RequestSpec

Router = Callable[[RequestSpec], Replica]

TOO_UNEVEN = 8
"""A prefix hit is given up when its replica has this many requests more than the emptiest."""


def round_robin(replicas: Sequence[Replica]) -> Router:
    """In turn."""
    turn = -1

    def choose(spec: RequestSpec) -> Replica:
        nonlocal turn
        turn = (turn + 1) % len(replicas)
        return replicas[turn]

    return choose


def least_loaded(replicas: Sequence[Replica]) -> Router:
    """Fewest requests waiting or running; the first of equals."""

    def choose(spec: RequestSpec) -> Replica:
        return min(replicas, key=lambda replica: replica.requests)

    return choose


def prefix_aware(replicas: Sequence[Replica]) -> Router:
    """Longest cached prefix, unless that replica is far fuller than the emptiest."""

    def choose(spec: RequestSpec) -> Replica:
        fewest = min(replica.requests for replica in replicas)
        fair = [replica for replica in replicas if replica.requests <= fewest + TOO_UNEVEN]
        most = spec.input_tokens - 1
        return max(
            fair,
            key=lambda replica: (replica.pool.match(spec.segments, most)[0], -replica.requests),
        )

    return choose


POLICIES: dict[str, Callable[[Sequence[Replica]], Router]] = {
    "round_robin": round_robin,
    "least_loaded": least_loaded,
    "prefix_aware": prefix_aware,
}
