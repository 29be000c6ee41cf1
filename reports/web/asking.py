"""From a page's state to an answer, by the same road that the command line takes."""

from __future__ import annotations

import shlex
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec

from analyzer.answer import Answer, answer
from analyzer.basis import Basis
from analyzer.errors import CapacityError, ConfigError
from analyzer.model import Model
from analyzer.models_catalog import load as load_model
from analyzer.plan import Plan
from analyzer.resolve import check_plan
from analyzer.system import System
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload
from reports.commands.options import basis_of, declare_basis, declare_plan, plan_of
from reports.web.fields import AUTO, RANKS
from reports.web.state import Values

_OURS: dict[str, Any] = {
    "arrival": "static", "tp": AUTO, "basis": "calibrated", "beams": 1, "cached": 0,
}  # fmt: skip


@cache
def _unasked() -> dict[str, Any]:
    """What a page that does not ask for it leaves as it is: what the command line leaves so."""
    parser = ArgumentParser()
    declare_plan(parser)
    declare_basis(parser)
    return {**vars(parser.parse_args([])), **_OURS}


class Asked:
    """A page's question with every name looked up."""

    def __init__(self, values: Values, system: System | None = None) -> None:
        filled = {**_unasked(), **values}
        self.auto = filled["tp"] == AUTO
        self.arrival: str = filled["arrival"]
        options = Namespace(**{**filled, "tp": 1 if self.auto else int(filled["tp"])})
        if filled["basis"] in ("uncalibrated", "ideal"):
            setattr(options, filled["basis"], True)
        self.model: Model = load_model(filled["model"])
        self.system = system or load_system(filled["system"])
        self.plan: Plan = plan_of(options, self.model)
        self.basis: Basis = basis_of(options, load_system(filled["system"]), self.arrival)
        self.load = Workload(
            batch=filled["batch"],
            input_tokens=filled["input"],
            output_tokens=filled["output"],
            beams=filled["beams"],
            cached_tokens=filled["cached"],
        )


def ask(values: Values) -> Answer:
    """The answer to a page's question; an InputError says in one sentence why there is none."""
    return settle_ranks(Asked(values))


def settle_ranks(asked: Asked) -> Answer:
    """The answer with as many ranks as were said, or with the fewest that hold the whole batch."""
    if not asked.auto:
        return _answer(asked, asked.plan)
    some: Answer | None = None
    refusal: CapacityError | None = None
    for plan in _wider(asked):
        try:
            found = _answer(asked, plan)
        except CapacityError as error:
            refusal = error
            continue
        if float(found.prediction.running) >= float(asked.load.batch):
            return found
        some = some or found
    if some is not None:
        return some
    if refusal is not None:
        raise refusal
    raise ConfigError(
        f"no number of tensor-parallel ranks suits {asked.model.name} on {asked.system.name}"
    )


def _answer(asked: Asked, plan: Plan) -> Answer:
    return answer(asked.model, asked.system, plan, asked.load, asked.basis, asked.arrival)


def _wider(asked: Asked) -> Iterator[Plan]:
    """Plans with more and more ranks, as far as the model's heads and the system allow."""
    first: ConfigError | None = None
    some = False
    for ranks in RANKS:
        plan = msgspec.structs.replace(asked.plan, tp=ranks)
        try:
            check_plan(plan, asked.model, asked.system)
        except ConfigError as error:
            first = first or error
            continue
        some = True
        yield plan
    if not some and first is not None:
        raise first


def fewest_ranks(asked: Asked) -> Plan:
    """The plan as it is said, or with the fewest ranks on which one sequence fits."""
    return settle_ranks(asked).plan if asked.auto else asked.plan


def command(values: Values, found: Answer) -> str:
    """What to type for the same answer."""
    filled = {**_unasked(), **values, "tp": int(found.plan.tp)}
    words = ["plumbline", "predict"]
    for name in ("model", "system", "batch", "input", "output"):
        words += [f"--{name}", str(filled[name])]
    for name in ("beams", "cached", "tp", "pp", "dp", "ep", "weights", "kv", "engine", "arrival"):
        if filled[name] not in (_unasked()[name], 1):
            words += [f"--{name}", str(filled[name])]
    if filled["basis"] != "calibrated":
        words.append(f"--{filled['basis']}")
    return shlex.join(words)
