"""Who stands for a prediction: each source's share of the time, what fell back and why, how sure.

Reads the timed tables that a `Prediction` keeps; arrays of scenarios stay arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from analyzer.predict import Prediction
from analyzer.sources.base import Ladder, Sourced
from analyzer.timing.kernels.common import Array
from analyzer.timing.phase import Part, Phase, integrated
from analyzer.timing.roofline import OpTimes

LEVEL = 0.9
_DEVIATIONS = 1.645
"""Standard deviations on either side that hold LEVEL of a normal distribution."""


class Credit(NamedTuple):
    """Where the operators' time of a phase comes from."""

    shares: dict[str, Array]
    """Per source, its share of the operators' time, per scenario."""
    doubt: Array
    """Relative standard deviation of the whole phase, per scenario. Operators of a kind are taken
    to be wrong together, kinds independently, and the host not at all."""
    answered: dict[str, int]
    """Per source, operators it answered, over all scenarios."""
    remarks: dict[str, dict[str, int]]
    """Per source, why it kept silent or guarded, and how often."""


def credit(phase: Phase, ladder: Ladder) -> Credit:
    """Add up what the sources said of a phase."""
    names = [source.name for source in ladder.sources]
    seconds: dict[str, Any] = dict.fromkeys(names, 0.0)
    off: dict[str, Any] = {}
    answered, remarks = dict.fromkeys(names, 0), dict[str, dict[str, int]]()
    for part, kinds, timed in _blocks(phase):
        asked: Sourced = timed.asked
        for index, name in enumerate(asked.names):
            mine = asked.source == index
            answered[name] += int(np.count_nonzero(mine))
            seconds[name] = seconds[name] + _whole(np.where(mine, timed.total_s, 0.0), part)
        for kind in dict.fromkeys(kinds):
            rows = [row for row, other in enumerate(kinds) if other == kind]
            wrong_s = timed.total_s[rows] * asked.uncertainty[rows]
            off[kind] = off.get(kind, 0.0) + _whole(wrong_s, part)
        added(remarks, asked.remarks)
    total = sum(seconds.values())
    shares = {name: value / np.where(total > 0, total, 1.0) for name, value in seconds.items()}
    doubt = np.sqrt(sum(np.square(value) for value in off.values())) / phase.total_s
    return Credit(shares, doubt, answered, remarks)


def _blocks(phase: Phase) -> Iterator[tuple[Part, tuple[str, ...], OpTimes]]:
    for part in phase.parts:
        tables = getattr(part.table, "blocks", ()) or (part.table,)
        for table, timed in zip(tables, part.ops, strict=True):
            yield part, table.kinds, timed


def _whole(values: Array, part: Part) -> Array:
    """Seconds of the phase: over the operators, the context, and the times that the part runs."""
    total = values.sum(axis=0)
    whole: Array = (integrated(total) if part.quadrature else total) * part.times
    return whole


def added(remarks: dict[str, dict[str, int]], more: dict[str, dict[str, int]]) -> None:
    """Take in more reasons of the same kind."""
    for name, reasons in more.items():
        held = remarks.setdefault(name, {})
        for reason, times in reasons.items():
            held[reason] = held.get(reason, 0) + times


def doubts(found: Prediction, first: Credit, later: Credit) -> dict[str, Array]:
    """Relative standard deviation of each metric."""
    decoding_s = found.e2e_s - found.ttft_s
    whole = np.hypot(found.ttft_s * first.doubt, decoding_s * later.doubt) / found.e2e_s
    return {
        "ttft_s": first.doubt,
        "tpot_s": later.doubt,
        "e2e_s": whole,
        "prefill_tok_s": first.doubt,
        "decode_tok_s": later.doubt,
        "total_tok_s": whole,
    }


def factors(doubt: Array) -> tuple[Array, Array]:
    """What a value is multiplied by for the bounds that hold LEVEL of it."""
    return np.exp(-_DEVIATIONS * doubt), np.exp(_DEVIATIONS * doubt)


def deviation(low: float, high: float) -> float:
    """The relative standard deviation that a band of LEVEL around a value implies."""
    return float(np.log(high / low) / (2.0 * _DEVIATIONS))
