"""What a search found: every plan with its verdict, the best, the ties, the front, the reasons."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.answer import Answer, answer
from analyzer.basis import Interval
from analyzer.plan import Plan
from analyzer.search.evaluate import Columns, workload
from analyzer.search.front import front
from analyzer.search.judge import BIT, PROMISES, REASONS, Judged, factors
from analyzer.search.prefill import PrefillTable
from analyzer.search.question import OBJECTIVES, Question
from analyzer.search.structures import Structure
from analyzer.system import System
from analyzer.workload import Workload

Array = NDArray[np.float64]
Rows = NDArray[np.int64]


class Lost(NamedTuple):
    """How many plans a reason cost: in all, and as their only reason."""

    reason: str
    meaning: str
    plans: int
    alone: int


class Row(NamedTuple):
    """One plan in plain numbers. Throughputs, devices and memory are of one replica."""

    row: int
    system: str
    plan: Plan
    replicas: int
    batch: float
    devices: int
    ttft_s: float
    tpot_s: float
    e2e_s: float
    tok_s: float
    tok_s_per_device: float
    tok_s_per_user: float
    requests_per_s: float
    running: float
    memory_B: float
    J_per_token: float
    usd_per_million: float
    prefill_plan: Plan | None
    """Of the prefill workers, where prefill and decoding have devices of their own."""
    prefill_workers: int
    decode_workers: int
    keeps: bool
    """Keeps promises and budget."""


class Found(NamedTuple):
    """A searched space."""

    question: Question
    structures: tuple[Structure, ...]
    columns: Columns
    judged: Judged
    prefill: PrefillTable
    refused: Counter[str]
    """Layouts and formats that cannot be, with how many fell to each reason."""

    @property
    def plans(self) -> int:
        """Plans that were predicted."""
        return len(self.columns.batch)

    @property
    def keeps(self) -> NDArray[np.bool_]:
        """Plans that keep every promise and the budget."""
        return np.asarray(self.judged.failed == 0)

    @property
    def nothing_fits(self) -> bool:
        """Whether no plan has room for its weights and one sequence."""
        return bool(np.all(self.judged.failed & BIT["memory"]))

    def score(self, objective: str = "") -> Array:
        """The objective of every plan, larger being better; -inf where it is not known."""
        wanted = OBJECTIVES[objective or self.question.objective]
        values = np.asarray(getattr(self.columns, wanted.column), dtype=np.float64)
        signed = values if wanted.grows else -values
        return np.where(np.isnan(signed), -np.inf, signed)

    def ranked(self, most: int, objective: str = "") -> list[int]:
        """Rows of the best plans that keep everything, best first.

        Where the objective is equal, more tokens per device win, then fewer devices.
        """
        kept = np.flatnonzero(self.keeps)
        score = self.score(objective)[kept]
        kept, score = kept[np.isfinite(score)], score[np.isfinite(score)]
        per_device = self.columns.tok_s_per_device[kept]
        order = np.lexsort((kept, self.columns.devices[kept], -per_device, -score))
        return [int(row) for row in kept[order[:most]]]

    def leaders(self, most: int, objective: str = "") -> list[int]:
        """The best batch of each layout, the best layouts first."""
        columns = self.columns
        seen: dict[tuple[int, int, int], int] = {}
        for row in self.ranked(self.plans, objective):
            key = (columns.structure[row], columns.layout[row], columns.prefill[row])
            seen.setdefault(tuple(map(int, key)), row)  # type: ignore[arg-type]
            if len(seen) == most:
                break
        return list(seen.values())

    def best(self, objective: str = "") -> int | None:
        """Row of the best plan; None where none keeps everything."""
        first = self.ranked(1, objective)
        return first[0] if first else None

    def ties(self, objective: str = "") -> Rows | None:
        """Plans that keep everything and whose interval reaches that of the best; None where no
        interval is known. Plans share much of their error, so these are too many, not too few.
        """
        best = self.best(objective)
        if best is None:
            return None
        low, high = self._spread(OBJECTIVES[objective or self.question.objective].column)
        if not np.isfinite(low[best]):
            return None
        score = self.score(objective)
        # Scores of what shall be small are negative: their ends change places.
        ends = np.sort(np.stack((score * low, score * high)), axis=0)
        return np.flatnonzero(self.keeps & (ends[1] >= ends[0, best]))

    def _spread(self, column: str) -> tuple[Array, Array]:
        if column == "devices":
            ones = np.ones(self.plans)
            return ones, ones
        if column == "tok_s_per_user":
            low, high = factors(self.question, self.columns, "tpot_s")
            return 1.0 / high, 1.0 / low
        rate = column == "tok_s_per_device"
        return factors(self.question, self.columns, "total_tok_s" if rate else "e2e_s")

    def front(self, offer: int | None = None) -> Rows:
        """Plans that fit and that no other beats in tok/s per user and per device together.

        Of all systems, or of one offer alone.
        """
        fits = (self.judged.failed & (BIT["memory"] | BIT["devices"] | BIT["busy"])) == 0
        if offer is not None:
            fits = fits & (self.columns.offer == offer)
        return front(self.columns.tok_s_per_user, self.columns.tok_s_per_device, fits)

    def lost(self) -> list[Lost]:
        """Why plans failed, by reason."""
        failed = self.judged.failed
        counted = []
        for reason in REASONS:
            bit = BIT[reason.name]
            plans, alone = int(((failed & bit) > 0).sum()), int((failed == bit).sum())
            if plans:
                counted.append(Lost(reason.name, reason.meaning, plans, alone))
        return counted

    def why(self, row: int) -> str:
        """Why one plan is not the best."""
        failed = int(self.judged.failed[row])
        if failed:
            return "; ".join(self._fault(row, name) for name, bit in BIT.items() if failed & bit)
        best = self.best()
        if best is None or best == row:
            return "it is the best"
        mine, theirs = self.score()[row], self.score()[best]
        if not np.isfinite(mine):
            return "the objective is not known of its system"
        behind = abs(mine - theirs) / abs(theirs)
        ties = self.ties()
        verdict = ", within the interval: a tie" if ties is not None and row in ties else ""
        meaning = OBJECTIVES[self.question.objective].meaning
        return f"{behind:.1%} behind the best in {meaning}{verdict}"

    def _fault(self, row: int, name: str) -> str:
        """One reason with this plan's figures."""
        columns, question = self.columns, self.question
        if name in PROMISES:
            figure = float(getattr(columns, PROMISES[name])[row])
            promised = getattr(question.slo, PROMISES[name])
            return f"{name.upper()} {1e3 * figure:.4g} ms, promised {1e3 * promised:.4g} ms"
        system = question.offers[int(columns.offer[row])].system
        if name == "memory":
            needs, has = float(columns.memory_B[row]), system.device.memory_B
            return f"needs {needs / 1e9:.1f} GB per device of {has / 1e9:.1f} GB"
        if name == "busy":
            return f"reading prompts alone would take {columns.busy[row]:.0%} of the time"
        return self._over_budget(row, name, system)

    def _over_budget(self, row: int, name: str, system: System) -> str:
        """What the plan would take of the budget, and what there is."""
        budget, each = self.question.budget, int(self.columns.devices[row])
        replicas = int(self.judged.replicas[row])
        devices, device = each * replicas, system.device
        have = min(budget.devices or system.devices_per_node, system.max_devices)
        said = {
            "devices": f"the budget has {have:g}",
            "cost": f"{devices * (device.price_usd_per_hour or math.nan):.4g} $/h, the budget has "
            f"{budget.usd_per_hour or math.nan:.4g}",
            "power": f"{devices * (device.tdp_W or math.nan) / 1e3:.4g} kW, the budget has "
            f"{(budget.power_W or math.nan) / 1e3:.4g}",
        }[name]
        load = self.question.requests_per_s
        for_load = f" for {load:g} requests/s" if load is not None else ""
        whole = f" ({replicas} replicas of {each})" if replicas > 1 else ""
        return f"takes {devices} {system.name}{whole}{for_load}: {said}"

    def system(self, row: int) -> System:
        """The system of one plan."""
        return self.question.offers[int(self.columns.offer[row])].system

    def plan(self, row: int) -> Plan:
        """One plan as it would be deployed: all replicas."""
        return _plan(
            self.structures[int(self.columns.structure[row])],
            int(self.columns.layout[row]),
            int(self.judged.replicas[row]),
        )

    def workload(self, row: int) -> Workload:
        """The load of all replicas of one plan."""
        batch = float(self.columns.batch[row]) * int(self.judged.replicas[row])
        return msgspec.structs.replace(workload(self.question, batch), slo=self.question.slo)

    def answer(self, row: int) -> Answer:
        """One plan predicted again, with its interval, its breakdown and all warnings.

        Of a disaggregated plan: its decoding workers, in a static batch.
        """
        system, basis = self.question.offers[int(self.columns.offer[row])]
        split = self.columns.prefill[row] >= 0
        arrival = "static" if split else self.question.arrival
        load = self.workload(row)
        return answer(self.question.model, system, self.plan(row), load, basis, arrival)

    def interval(self, row: int, metric: str, answered: Answer) -> Interval | None:
        """The interval of one plan's figure, given its answer.

        Of a disaggregated plan only the time per token has one: its prompts are read elsewhere.
        """
        if self.columns.prefill[row] >= 0 and metric != "tpot_s":
            return None
        return answered.interval(metric)

    def row(self, row: int) -> Row:
        """One plan in plain numbers."""
        columns = self.columns
        split = int(columns.prefill[row])
        numbers = {
            name: float(getattr(columns, name)[row])
            for name in Row._fields
            if name in Columns._fields or name in ("tok_s_per_device", "tok_s_per_user")
        }
        whole = {
            name: int(numbers[name]) for name in ("devices", "prefill_workers", "decode_workers")
        }
        plain: dict[str, object] = {**numbers, **whole}
        return Row(
            row=row,
            system=self.system(row).name,
            plan=self.plan(row),
            replicas=int(self.judged.replicas[row]),
            prefill_plan=self.prefill.plan(self.structures, split) if split >= 0 else None,
            keeps=bool(self.keeps[row]),
            **plain,  # type: ignore[arg-type]
        )


def _plan(structure: Structure, layout: int, replicas: int) -> Plan:
    ranks = structure.ranks[layout]
    return msgspec.structs.replace(
        structure.plan, tp=ranks.tp, ep=ranks.ep, attention_dp=ranks.attention_dp, dp=replicas
    )
