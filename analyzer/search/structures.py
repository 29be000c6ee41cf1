"""Plans that differ in numbers only: one structure, and arrays of layouts and batches over it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.answer import check_arithmetic, settle
from analyzer.engines import engine
from analyzer.errors import ConfigError
from analyzer.plan import Offload, Plan
from analyzer.resolve import activation_format, cache_format
from analyzer.search.layouts import Layouts, Ranks, layouts
from analyzer.search.question import Question

Ints = NDArray[np.int64]


class Structure(NamedTuple):
    """What cannot be an array of a plan, and the layouts that share it."""

    offer: int
    plan: Plan
    """With everything decided but the ranks and the batch."""
    ranks: tuple[Ranks, ...]

    def column(self, name: str) -> Ints:
        """One of the ranks' numbers over all layouts."""
        return np.array([getattr(ranks, name) for ranks in self.ranks], dtype=np.int64)

    def across(self) -> Plan:
        """The plan with all layouts as arrays."""
        names = ("tp", "ep", "attention_dp")
        return msgspec.structs.replace(self.plan, **{name: self.column(name) for name in names})


class Structures(NamedTuple):
    """All of a search, and what was refused before anything was predicted."""

    found: tuple[Structure, ...]
    refused: Counter[str]


def structures(question: Question) -> Structures:
    """Every structure of the space, on every system on offer."""
    found: list[Structure] = []
    refused: Counter[str] = Counter()
    for place, (system, _) in enumerate(question.offers):
        laid: dict[tuple[str, str], Layouts] = {}
        most = most_devices(question, place)
        for plan in _plans(question, place, refused):
            key = plan.weights, plan.engine
            if key not in laid:
                laid[key] = layouts(question.model, system, question.space, most, *key)
                refused.update(laid[key].refused)
            found += _by_stages(place, plan, laid[key])
    return Structures(tuple(found), refused)


def most_devices(question: Question, place: int) -> int:
    """Devices that one replica may have."""
    system = question.offers[place].system
    wanted = question.budget.devices or system.devices_per_node
    return int(min(wanted, system.max_devices))


def _by_stages(place: int, plan: Plan, laid: Layouts) -> Iterator[Structure]:
    for pp in sorted({ranks.pp for ranks in laid.legal}):
        own = tuple(ranks for ranks in laid.legal if ranks.pp == pp)
        yield Structure(place, msgspec.structs.replace(plan, pp=pp), own)


def _plans(question: Question, place: int, refused: Counter[str]) -> Iterator[Plan]:
    """Settled plans of one device; formats that the device cannot compute in are refused."""
    system, basis = question.offers[place]
    space, model = question.space, question.model
    seen: set[str] = set()
    axes = (space.weights, space.kv, space.chunk_tokens or (None,), space.speculation)
    for weights, kv, chunk, drafts in product(*axes):
        stored = weights or model.native_weights
        base = Plan(
            weights=stored,
            activations=activation_format(stored),
            kv=cache_format(kv, stored, engine(question.engine)),
            chunk_tokens=chunk,
            speculation=drafts,
            engine=question.engine,
        )
        plan = settle(base, model, basis, system)
        if chunk == 0:
            plan = msgspec.structs.replace(plan, chunk_tokens=None)
        try:
            check_arithmetic(plan, model, system)
        except ConfigError as error:
            refused[str(error)] += 1
            continue
        for share in space.weights_host:
            offload = Offload(weights_host=share) if share else None
            whole = msgspec.structs.replace(plan, offload=offload)
            if repr(whole) not in seen:
                seen.add(repr(whole))
                yield whole
