"""The interface of a source, and the ladder that asks several in turn."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, nearest
from analyzer.optable import OpTable
from analyzer.system import System
from analyzer.timing.kernels.common import Array
from analyzer.timing.machine import Machine
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import OpTimes


class Answer(NamedTuple):
    """What a source says of each operator, shape (operators, *scenarios)."""

    seconds: Array
    """Of one execution; NaN where the source has nothing to say."""
    uncertainty: Array
    """Relative, one standard deviation."""
    remarks: dict[str, int] | None = None
    """Why it kept silent or guarded, and for how many operators and scenarios."""


class Source(Protocol):
    """Counted operators in, seconds and an uncertainty out."""

    @property
    def name(self) -> str:
        """As in the ladder."""

    @property
    def notes(self) -> Mapping[str, int]:
        """What was left out when the source was built, and how many rows."""

    def answer(self, table: OpTable) -> Answer:
        """Times for the operators that this source knows."""


class Sourced(NamedTuple):
    """Seconds per execution, how sure, and who said so."""

    seconds: Array
    uncertainty: Array
    source: NDArray[np.intp]
    """Position in `names`, per operator and scenario."""
    names: tuple[str, ...]
    remarks: dict[str, dict[str, int]]
    """Per source, what it had to remark."""

    @property
    def shares(self) -> dict[str, float]:
        """Share of the operators' time that each source stands for."""
        total = self.seconds.sum()
        return {
            name: float(self.seconds[self.source == index].sum() / total)
            for index, name in enumerate(self.names)
        }


@dataclass(frozen=True)
class Context:
    """What sources are built from; each takes what it needs and says what is missing."""

    system: System
    machine: Machine
    rates: Rates
    options: Mapping[str, Any] = field(default_factory=dict)
    """Per source: where its tables lie, which software is meant, a hook that measures."""


Builder = Callable[[Context], Source]


class Entry(NamedTuple):
    """A source that can be asked for."""

    builder: str | Builder
    """A module with a `build`, imported when first asked for; or what was registered."""
    about: str = "registered by the caller"
    detail: str = ""
    """The option that `name:DETAIL` sets; '' where a source takes none."""


_ENTRIES: dict[str, Entry] = {
    "analytic": Entry("analyzer.sources.analytic", "the roofline with the rates of the prediction"),
    "table": Entry(
        "analyzer.sources.table",
        "measured operators, interpolated between shapes: the project's own, table:FILE, or "
        "table:vllm (sglang, trtllm) of the installed aiconfigurator-core",
        "from",
    ),
    "residual": Entry(
        "analyzer.sources.fitted", "kernel forms fitted to a device; residual:FILE adds trees",
        "path",
    ),
    "measured": Entry("analyzer.sources.measured", "runs each operator here and now", "store"),
    "scalesim": Entry(
        "analyzer.sources.scalesim", "cycles of the systolic array that the system describes"
    ),
}  # fmt: skip


def register(name: str, builder: Builder) -> None:
    """Enter a further source under the name that users write."""
    _ENTRIES[name] = Entry(builder)


def source_names() -> tuple[str, ...]:
    """All sources that can be asked for."""
    return tuple(_ENTRIES)


def entry(name: str) -> Entry:
    """What is known of a source."""
    if name not in _ENTRIES:
        raise ConfigError(
            f"unknown source {name!r}{nearest(name, _ENTRIES)}; use {', '.join(_ENTRIES)}"
        )
    return _ENTRIES[name]


def ladder(spec: str | Sequence[str], context: Context) -> list[Source]:
    """Build the sources of "table,analytic": the first that knows an operator is believed.

    A rung may carry a detail, as in "table:mine.csv.gz,residual:fits.json,analytic".
    """
    rungs = [part.strip() for part in spec.split(",")] if isinstance(spec, str) else list(spec)
    if not rungs or "" in rungs:
        raise ConfigError(f"empty name among the sources {spec!r}; use e.g. table,analytic")
    for rung in rungs:
        entry(rung.partition(":")[0])
    return [_build(rung, context) for rung in rungs]


def _build(rung: str, context: Context) -> Source:
    name, colon, detail = rung.partition(":")
    known = entry(name)
    if colon:
        if not known.detail or not detail:
            raise ConfigError(f"source {rung!r}: {name} takes nothing after a colon" if detail
                              else f"source {rung!r}: nothing follows the colon")  # fmt: skip
        own = {**context.options.get(name, {}), known.detail: detail}
        options = {**context.options, name: own}
        context = Context(context.system, context.machine, context.rates, options)
    builder = known.builder
    if isinstance(builder, str):
        builder = importlib.import_module(builder).build
    return builder(context)


def time_with(sources: Sequence[Source], table: OpTable) -> Sourced:
    """Ask the sources in turn; an operator that none knows is an error, not a zero."""
    shape = (len(table.names), *table.shape)
    seconds, uncertainty = np.full(shape, np.nan), np.full(shape, np.nan)
    by = np.full(shape, -1, dtype=np.intp)
    remarks: dict[str, dict[str, int]] = {}
    for index, source in enumerate(sources):
        open_still = np.isnan(seconds)
        if not open_still.any():
            break
        answer = source.answer(table)
        taken = open_still & ~np.isnan(np.broadcast_to(answer.seconds, shape))
        seconds[taken] = np.broadcast_to(answer.seconds, shape)[taken]
        uncertainty[taken] = np.broadcast_to(answer.uncertainty, shape)[taken]
        by[taken] = index
        if answer.remarks:
            remarks[source.name] = answer.remarks
    _require_all(table, seconds, sources)
    return Sourced(seconds, uncertainty, by, tuple(source.name for source in sources), remarks)


def _require_all(table: OpTable, seconds: Array, sources: Sequence[Source]) -> None:
    silent = np.flatnonzero(np.isnan(seconds).reshape(len(table.names), -1).any(axis=1))
    if silent.size:
        missing = [table.names[index] for index in silent]
        asked = ", ".join(source.name for source in sources)
        shown = ", ".join(missing[:4]) + (" …" if len(missing) > 4 else "")
        raise ConfigError(f"no source among {asked} knows {shown}; add analytic at the end")


@dataclass(frozen=True)
class Ladder:
    """Sources in the order in which they are asked; rides along in `Machine.ladder`."""

    spec: str
    sources: tuple[Source, ...]

    def retime(self, table: OpTable, timed: OpTimes) -> OpTimes:
        """Operator times as the sources have them; what bounds an operator stays the roofline's."""
        asked = time_with(self.sources, table)
        return timed._replace(total_s=asked.seconds * table.repeat, asked=asked)
