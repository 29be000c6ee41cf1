"""Collectives over several dimensions, and collectives that hide behind compute."""

from __future__ import annotations

import math
from collections.abc import Sequence

from analyzer.errors import ConfigError
from analyzer.network.algorithms import GATHER, SCATTER, Collective, find
from analyzer.network.schedule import Done, Schedule, merge, nothing
from analyzer.network.simulate import Outcome, simulate
from analyzer.network.topology import Topology


def hierarchical(
    schedule: Schedule,
    topology: Topology,
    payload_B: float,
    after: Done,
    algorithms: Sequence[str] | str = "ring",
) -> Done:
    """All-reduce: scatter along each dimension in turn, then gather along them backwards.

    After each scatter 1/size of the payload is left, so slow outer dimensions carry little.
    """
    dimensions = range(len(topology.shape))
    names = [algorithms] * len(dimensions) if isinstance(algorithms, str) else list(algorithms)
    if len(names) != len(dimensions):
        raise ConfigError(f"{len(names)} algorithms for {len(dimensions)} dimensions")
    left_B, ready = payload_B, after
    sizes_B: list[float] = []
    for index in dimensions:
        sizes_B.append(left_B)
        ready = _along(schedule, topology, index, SCATTER[names[index]], left_B, ready)
        left_B /= topology.shape[index]
    for index in reversed(dimensions):
        ready = _along(schedule, topology, index, GATHER[names[index]], sizes_B[index], ready)
    return ready


def _along(
    schedule: Schedule,
    topology: Topology,
    dimension: int,
    collective: Collective,
    payload_B: float,
    after: Done,
) -> Done:
    parts = [
        collective(schedule, line, payload_B, {rank: after[rank] for rank in line})
        for line in topology.lines(dimension)
    ]
    return merge(*parts)


def run(
    topology: Topology,
    kind: str,
    payload_B: float,
    algorithm: str = "ring",
    pieces: int = 1,
    packet_B: float = math.inf,
) -> Outcome:
    """Simulate one collective over all ranks; "hierarchical" goes dimension by dimension.

    `pieces` are chunks of the payload with a schedule each; packets only share links more finely.
    """
    schedule = Schedule()
    ranks = range(topology.ranks)
    for _ in range(pieces):
        share_B = payload_B / pieces
        if algorithm == "hierarchical":
            if kind != "all_reduce":
                raise ConfigError(f"hierarchical {kind} is not built; use all_reduce")
            hierarchical(schedule, topology, share_B, nothing(ranks))
        else:
            find(kind, algorithm)(schedule, ranks, share_B, nothing(ranks))
    return simulate(topology, schedule, packet_B)


def overlapped_layers(
    topology: Topology,
    layers: int,
    compute_s: float,
    payload_B: float,
    micro_batches: int = 2,
    kind: str = "all_reduce",
    algorithm: str = "ring",
) -> Outcome:
    """Layers of compute, each followed by a collective, for micro-batches in turn.

    A layer's `compute_s` and `payload_B` are of the whole batch; a micro-batch has its share. While
    one communicates the others compute: with one micro-batch nothing is hidden.
    """
    schedule = Schedule()
    ranks = range(topology.ranks)
    collective = find(kind, algorithm)
    ready = [nothing(ranks) for _ in range(micro_batches)]
    for layer in range(layers):
        for batch in range(micro_batches):
            computed: Done = {
                rank: (
                    schedule.compute(
                        rank, compute_s / micro_batches, ready[batch][rank], f"layer {layer}"
                    ),
                )
                for rank in ranks
            }
            share_B = payload_B / micro_batches
            ready[batch] = collective(schedule, ranks, share_B, computed)
    return simulate(topology, schedule)
