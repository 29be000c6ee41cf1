"""Which layouts there are: every combination that devices, heads and experts allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from analyzer.engines import engine as find_engine
from analyzer.errors import ConfigError
from analyzer.model import Model
from analyzer.plan import Plan
from analyzer.resolve import check_plan
from analyzer.search.question import Space
from analyzer.system import System


class Ranks(NamedTuple):
    """How one replica is cut over its devices."""

    pp: int
    tp: int
    ep: int
    attention_dp: int


class Layouts(NamedTuple):
    """Legal layouts, and why others are not, with how many fell to each reason."""

    legal: tuple[Ranks, ...]
    refused: Counter[str]


def layouts(
    model: Model, system: System, space: Space, most: int, weights: str = "", engine: str = ""
) -> Layouts:
    """Layouts of at most `most` devices that the engine can run with weights of that format."""
    legal: list[Ranks] = []
    refused: Counter[str] = Counter()
    whole = find_engine(engine).whole_ep
    for ranks in _combinations(model, space, most, whole):
        plan = Plan(
            pp=ranks.pp,
            tp=ranks.tp,
            ep=ranks.ep,
            attention_dp=ranks.attention_dp,
            weights=weights,
            engine=engine,
        )
        try:
            if whole and ranks.ep not in (1, ranks.tp):
                raise ConfigError(
                    f"{engine} deals experts to all {ranks.tp} ranks or to none; use ep=1 or "
                    f"ep={ranks.tp}"
                )
            check_plan(plan, model, system)
        except ConfigError as error:
            refused[str(error)] += 1
        else:
            legal.append(ranks)
    return Layouts(tuple(legal), refused)


def _combinations(model: Model, space: Space, most: int, whole_ep: bool) -> Iterator[Ranks]:
    mixture = any(getattr(layer.ffn, "experts", 0) for layer in model.layers)
    for pp in space.pp or _doublings(min(most, len(model.layers))):
        for tp in space.tp or _doublings(most // pp):
            if pp * tp > most:
                continue
            own = _doublings(tp) if mixture else (1,)
            for ep in space.ep or (sorted({1, own[-1]}) if whole_ep else own):
                for groups in space.attention_dp or own:
                    yield Ranks(pp, tp, ep, groups)


def _doublings(most: int) -> Sequence[int]:
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]
