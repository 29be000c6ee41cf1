"""The event loop: transfers queue for links first come, first served, and flow through them.

A transfer's head moves on as soon as a link is free and pays its latency; the link stays taken
until the tail is through (cut-through, no packets lost, queues as deep as need be). A transfer over
links of different speed ends when the slowest has passed its last byte. Where many flows share a
link that is faster than each of them, cut transfers into packets, or the first holds up the rest.
"""

from __future__ import annotations

import heapq
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError
from analyzer.network.schedule import Schedule
from analyzer.network.topology import FLOOR_SHARPNESS, Topology
from analyzer.timing.kernels.common import soft_max

Array = NDArray[np.float64]


class Outcome(NamedTuple):
    """When everything was done."""

    seconds: float
    """When the last task ended."""
    start_s: Array
    end_s: Array
    link_busy_s: Array
    """Per link, seconds in which bytes flowed."""
    compute_busy_s: Array
    """Per rank."""


class _State:
    """What the event loop changes."""

    def __init__(self, topology: Topology, schedule: Schedule, packet_B: float) -> None:
        tasks = schedule.tasks
        self.packets = [max(1, math.ceil(task.size_B / packet_B)) for task in tasks]
        self.missing = list(self.packets)
        self.topology, self.tasks = topology, tasks
        self.waiting = [len(task.after) for task in tasks]
        self.followers: list[list[int]] = [[] for _ in tasks]
        for number, task in enumerate(tasks):
            for earlier in task.after:
                self.followers[earlier].append(number)
        self.free_s = [0.0] * len(topology.links)
        self.busy_s = [0.0] * len(topology.links)
        self.rank_free_s = [0.0] * topology.ranks
        self.rank_busy_s = [0.0] * topology.ranks
        self.start_s = [0.0] * len(tasks)
        self.end_s = [0.0] * len(tasks)
        self.queue: list[tuple[float, int, int, float]] = []
        """(time, task, links that its head has behind it, when its tail is there); −1: it ends."""


def simulate(topology: Topology, schedule: Schedule, packet_B: float = math.inf) -> Outcome:
    """Run a schedule over a topology from time 0; transfers travel in packets of `packet_B`."""
    if not packet_B > 0:
        raise ConfigError(f"packet_B must be above 0, not {packet_B:g}")
    state = _State(topology, schedule, packet_B)
    for number, waiting in enumerate(state.waiting):
        if waiting == 0:
            _begin(state, number, 0.0)
    while state.queue:
        now, number, passed, tail_s = heapq.heappop(state.queue)
        if passed < 0:
            _end(state, number, now)
        elif state.tasks[number].is_compute:
            _compute(state, number, now)
        else:
            _advance(state, number, passed, now, tail_s)
    return Outcome(
        max(state.end_s, default=0.0),
        np.asarray(state.start_s),
        np.asarray(state.end_s),
        np.asarray(state.busy_s),
        np.asarray(state.rank_busy_s),
    )


def _begin(state: _State, number: int, now: float) -> None:
    state.start_s[number] = math.inf
    for _ in range(state.packets[number]):
        heapq.heappush(state.queue, (now, number, 0, 0.0))


def _advance(state: _State, number: int, passed: int, now: float, tail_s: float) -> None:
    """The head of a packet is at its next link, or at its target."""
    task = state.tasks[number]
    route = state.topology.route(task.rank, task.target)
    if passed == len(route):
        state.missing[number] -= 1
        state.end_s[number] = max(state.end_s[number], now, tail_s)
        state.start_s[number] = min(state.start_s[number], now)
        if state.missing[number] == 0:
            heapq.heappush(state.queue, (state.end_s[number], number, -1, 0.0))
        return
    index = route[passed]
    link = state.topology.links[index]
    start_s = max(now, state.free_s[index])
    if passed == 0:
        state.start_s[number] = min(state.start_s[number], start_s)
    flow_s = task.size_B / state.packets[number] / link.Bps
    state.free_s[index] = start_s + flow_s  # while a slow sender trickles, others may pass
    state.busy_s[index] += flow_s
    late_s = link.latency_s + math.sqrt(link.ramp_s * task.size_B / link.Bps)
    if link.floor_s:
        own_s, floor_s = np.asarray(flow_s + late_s), np.asarray(link.floor_s)
        late_s = float(soft_max(own_s, floor_s, FLOOR_SHARPNESS)) - flow_s
    through_s = max(start_s + flow_s, tail_s) + late_s
    heapq.heappush(state.queue, (start_s + late_s, number, passed + 1, through_s))


def _compute(state: _State, number: int, now: float) -> None:
    task = state.tasks[number]
    start_s = max(now, state.rank_free_s[task.rank])
    state.start_s[number] = start_s
    state.rank_free_s[task.rank] = start_s + task.seconds
    state.rank_busy_s[task.rank] += task.seconds
    heapq.heappush(state.queue, (start_s + task.seconds, number, -1, 0.0))


def _end(state: _State, number: int, now: float) -> None:
    state.end_s[number] = now
    for follower in state.followers[number]:
        state.waiting[follower] -= 1
        if state.waiting[follower] == 0:
            _begin(state, follower, now)
