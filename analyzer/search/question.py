"""What is searched: a model under a load and a promise, the machines on offer, what may vary."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

from analyzer.basis import Basis
from analyzer.errors import ConfigError, nearest
from analyzer.model import Model
from analyzer.plan import Speculation
from analyzer.system import System
from analyzer.workload import SLO

ARRIVALS = ("closed_loop", "static")


class Objective(NamedTuple):
    """What is made as large as possible: a column of the result, and its meaning."""

    column: str
    unit: str
    meaning: str
    grows: bool = True
    """False: the column is made as small as possible."""


OBJECTIVES: dict[str, Objective] = {
    "device": Objective("tok_s_per_device", "tok/s", "output tokens per second and device"),
    "dollar": Objective("usd_per_million", "$/M tokens", "price of a million output tokens", False),
    "joule": Objective("J_per_token", "J/token", "energy of an output token", False),
    "user": Objective("tok_s_per_user", "tok/s", "tokens per second that one user sees"),
    "fewest": Objective("devices", "devices", "devices of one replica", False),
}


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be spent on all replicas together; None: no limit."""

    devices: int | None = None
    """None: as many as one node holds."""
    usd_per_hour: float | None = None
    power_W: float | None = None
    """At the devices' power limit, which is what a rack must provide."""


class Space(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may vary; an empty tuple leaves the choice of values to the search."""

    tp: tuple[int, ...] = ()
    pp: tuple[int, ...] = ()
    ep: tuple[int, ...] = ()
    attention_dp: tuple[int, ...] = ()
    weights: tuple[str, ...] = ("",)
    """Formats; '' is the model's own. Narrower ones change what the model answers."""
    kv: tuple[str, ...] = ("",)
    chunk_tokens: tuple[int, ...] = ()
    """Prompt tokens per step, 0 for whole prompts; empty: what the engine does by itself."""
    batch: tuple[int, ...] = ()
    """Sequences of one replica: a static batch, or requests in flight."""
    speculation: tuple[Speculation | None, ...] = (None,)
    weights_host: tuple[float, ...] = (0.0,)
    """Shares of the weights that stay in host memory and are streamed in every step."""
    disaggregated: bool = False
    """Prefill and decoding on workers of their own as well."""


class Offer(NamedTuple):
    """A system that may be bought, and the rates that are known of it."""

    system: System
    basis: Basis


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole search."""

    model: Any
    """The analyzer's Model."""
    offers: tuple[Offer, ...]
    input_tokens: int
    output_tokens: int
    beams: int = 1
    cached_tokens: int = 0
    slo: SLO = SLO()
    surely: bool = False
    """The promise must hold at the upper end of the interval, not at the prediction alone."""
    arrival: str = "closed_loop"
    """`closed_loop`: requests in flight all the time; `static`: batches that start together."""
    requests_per_s: float | None = None
    """Load of all replicas together; None: they are filled."""
    budget: Budget = Budget()
    space: Space = Space()
    objective: str = "device"
    engine: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.model, Model):
            raise ConfigError(f"model must be a Model, not {self.model!r}")
        if not self.offers:
            raise ConfigError("a search needs at least one system")
        if self.objective not in OBJECTIVES:
            raise ConfigError(
                f"objective {self.objective!r} is unknown{nearest(self.objective, OBJECTIVES)}; "
                f"use {', '.join(OBJECTIVES)}"
            )
        if self.arrival not in ARRIVALS:
            raise ConfigError(f"arrival {self.arrival!r} is unknown; use {' or '.join(ARRIVALS)}")
        _check_positive(self.budget, "budget")
        _check_positive(self.slo, "slo")
        if self.requests_per_s is not None and not self.requests_per_s > 0:
            raise ConfigError(f"requests_per_s must be above 0, not {self.requests_per_s:g}")
        for name in ("tp", "pp", "ep", "attention_dp", "batch"):
            if any(value < 1 for value in getattr(self.space, name)):
                raise ConfigError(f"{name} must be at least 1 everywhere")
        if any(value < 0 for value in self.space.chunk_tokens):
            raise ConfigError("chunk_tokens must be at least 0 (0: whole prompts)")


def _check_positive(part: msgspec.Struct, name: str) -> None:
    for field in part.__struct_fields__:
        value = getattr(part, field)
        if value is not None and not value > 0:
            raise ConfigError(f"{name}: {field} must be above 0, not {value:g}")
