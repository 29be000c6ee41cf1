"""Which cases a campaign takes, what each may cost, and what a small budget leaves out.

Every profile has a planner; it asks no library and touches no device, so a plan can be shown, cut
and tested anywhere. A case of priority 0 is worth more to a calibration than one of priority 2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from profilers import collectives, gauge, generation, layers, links, memory, operators
from profilers.cases import Machine, Planned
from profilers.options import Options, profiles_of
from profilers.stopping import Rules

Planner = Callable[[Options, Machine], list[Planned]]

PLANNERS: dict[str, Planner] = {
    "operators": operators.plan,
    "links": links.plan,
    "collectives": collectives.plan,
    "layers": layers.plan,
    "generation": generation.plan,
    "gauge": gauge.plan,
    "memory": memory.plan,
}

RULES: dict[str, Rules] = {
    "operators": operators.RULES,
    "links": links.RULES,
    "collectives": collectives.RULES,
    "layers": layers.RULES,
    "generation": generation.RULES,
    "gauge": gauge.RULES,
    "memory": memory.RULES,
}

CPU_RULES: dict[str, Rules] = {"generation": generation.VISIT_RULES}


def rules_of(profile: str, machine: Machine) -> Rules:
    """What a measurement of that profile may cost on that machine."""
    return (CPU_RULES.get(profile) if machine.device == "cpu" else None) or RULES[profile]


BUDGET_SHARE = 0.92
"""Of the budget, what the plan may fill; the rest is for starting workers and for re-takes."""


def plan(profile: str, options: Options, machine: Machine) -> tuple[Planned, ...]:
    """All cases of a profile (or of `all`) that make sense on this machine, no two alike."""
    seen: set[str] = set()
    planned = []
    for name in profiles_of(profile):
        for item in PLANNERS[name](options, machine):
            if item.case.id not in seen and item.memory_B < machine.memory_B:
                seen.add(item.case.id)
                planned.append(item)
    return tuple(planned)


def cut_to_budget(planned: Sequence[Planned], budget_s: float | None) -> tuple[Planned, ...]:
    """The most telling cases that fit; within a priority the profiles take turns."""
    if budget_s is None:
        return tuple(planned)
    room_s = budget_s * BUDGET_SHARE
    chosen = []
    for item in _in_turns(planned):
        if item.estimate_s <= room_s:
            chosen.append(item)
            room_s -= item.estimate_s
    return tuple(chosen)


def _in_turns(planned: Sequence[Planned]) -> list[Planned]:
    """By priority; within one, each profile advances at the same rate through its own cases."""
    lanes: dict[tuple[int, str], int] = {}
    totals: dict[tuple[int, str], int] = {}
    for item in planned:
        lane = (item.priority, item.case.profile)
        totals[lane] = totals.get(lane, 0) + 1
    keyed = []
    for item in planned:
        lane = (item.priority, item.case.profile)
        lanes[lane] = lanes.get(lane, 0) + 1
        keyed.append((item.priority, lanes[lane] / totals[lane], item))
    return [item for _, _, item in sorted(keyed, key=lambda key: key[:2])]
