"""Where the time of one scenario goes: per operator, what bounds it, and what would help.

Reads the timed tables that a `Prediction` keeps, so nothing is counted or timed a second time but
the speed of light beside it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.answer import Answer
from analyzer.errors import ConfigError
from analyzer.optable import COMPUTE
from analyzer.phases import SHARES
from analyzer.predict import predict
from analyzer.timing.machine import GEMM_RATE, Machine, machine
from analyzer.timing.phase import Part, Phase
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import BOUNDS, time_ops

Array = NDArray[np.float64]

_OF_KIND = {
    ("attention", "compute"): "attention_eff",
    ("attention", "memory"): "kv_eff",
    ("scan", "compute"): "attention_eff",
    ("scan", "memory"): "kv_eff",
    ("elementwise", "compute"): "vector_eff",
    ("elementwise", "memory"): "vector_eff",
    ("embedding", "compute"): "vector_eff",
    ("embedding", "memory"): "vector_eff",
    ("collective", "network"): "link_eff",
}
_OVERHEAD = "launch_s"
OFFLOADED = "host link"
"""What binds where the device waits for weights or cache that lie beside it."""
ALL_BOUNDS = (*BOUNDS, OFFLOADED)
_LINKS = ("link_Bps", "pair_Bps", "shared_Bps", "net_Bps")
_ABSENT = 1e-12
"""Seconds below which a remainder is rounding."""


class Line(NamedTuple):
    """One operator of a phase: per request batch in prefill, per output token in decoding."""

    phase: str
    name: str
    kind: str
    repeat: float
    """Executions per step."""
    time_s: float
    share: float
    """Of the phase."""
    bound: str
    """One of `ALL_BOUNDS`."""
    of_light: float
    """Least possible time over this one; 0 where an ideal machine would not spend any."""
    rate: str
    """The rate that this operator depends on most."""
    origin: str
    """Where that rate comes from, see `basis.ORIGINS`."""
    source: str = ""
    """Who said how long it takes, where others than the rates were asked: a source's name, or
    several with `+` where the context decides."""
    uncertainty: float | None = None
    """Relative, one standard deviation, as the source states it."""


class Bound(NamedTuple):
    """What takes most of the time."""

    prefill: str
    decode: str
    overall: str


class Lever(NamedTuple):
    """What a tenth more of something would do."""

    name: str
    gain: float
    """Share of the end-to-end time that it saves."""


def lines(found: Answer) -> list[Line]:
    """Every operator, host and pipeline included, longest first within each phase."""
    _require_one(found)
    on = machine(found.system)
    listed: list[Line] = []
    for name, phase in (("prefill", found.prediction.prefill), ("decode", found.prediction.decode)):
        of_phase = [*_operators(name, phase, on, found), *_rest(name, phase, found)]
        listed += sorted(of_phase, key=lambda line: -line.time_s)
    return listed


def bound(found: Answer, listed: list[Line] | None = None) -> Bound:
    """What binds each phase and the whole."""
    listed = listed if listed is not None else lines(found)
    by_phase = {name: _by_bound(listed, name) for name in ("prefill", "decode")}
    steps = max(float(found.workload.output_tokens) - 1.0, 0.0)
    whole = {
        name: by_phase["prefill"][name] + steps * by_phase["decode"][name] for name in ALL_BOUNDS
    }
    return Bound(*(max(times, key=times.__getitem__) for times in (*by_phase.values(), whole)))


def levers(found: Answer, more: float = 0.1) -> list[Lever]:
    """What a tenth more bandwidth, arithmetic or network would save, the most telling first."""
    _require_one(found)
    base = machine(found.system)  # without other sources: they know no other machine
    links = msgspec.structs.replace(
        base.fabric,
        **{name: getattr(base.fabric, name) * (1 + more) for name in _LINKS},
    )
    tried = {
        "memory bandwidth": base._replace(memory_Bps=base.memory_Bps * (1 + more)),
        "compute": base._replace(
            peak_vector=base.peak_vector * (1 + more), vector_flops=base.vector_flops * (1 + more)
        ),
        "network bandwidth": base._replace(fabric=links),
        "host link": base._replace(
            host_Bps=base.host_Bps * (1 + more), disk_Bps=base.disk_Bps * (1 + more)
        ),
    }
    now_s = _e2e_s(found, base) if found.basis.ladder else float(found.prediction.e2e_s)
    gains = [Lever(name, 1.0 - _e2e_s(found, on) / now_s) for name, on in tried.items()]
    return sorted(gains, key=lambda lever: -lever.gain)


def _e2e_s(found: Answer, on: Machine) -> float:
    again = predict(
        found.model, found.system, found.plan, found.workload, found.basis.rates, found.arrival,
        on=on,
    )  # fmt: skip
    return float(again.e2e_s)


def _require_one(found: Answer) -> None:
    if np.ndim(found.prediction.e2e_s):
        raise ConfigError("only one scenario at a time can be explained")


def _operators(name: str, phase: Phase, on: Machine, found: Answer) -> Iterator[Line]:
    total_s = float(phase.total_s)
    merged: dict[str, Line] = {}
    for part in phase.parts:
        for line in _of_part(name, part, on, found, total_s):
            held = merged.get(line.name)
            merged[line.name] = line if held is None else _together(held, line)
    yield from merged.values()


def _together(a: Line, b: Line) -> Line:
    """One operator of several stages or layer kinds."""
    longer = max(a, b, key=lambda line: line.time_s)
    time_s = a.time_s + b.time_s
    light_s = a.of_light * a.time_s + b.of_light * b.time_s
    return longer._replace(
        repeat=a.repeat + b.repeat,
        time_s=time_s,
        share=a.share + b.share,
        of_light=light_s / time_s if time_s else 0.0,
    )


def _of_part(name: str, part: Part, on: Machine, found: Answer, total_s: float) -> Iterator[Line]:
    columns = part.table.columns
    least = time_ops(part.table, on, Rates.ideal())
    spent = [_mean(values, part) for values in part.ops[0][:5]]
    least_s = _mean(least.total_s, part)
    which = np.argmax(np.stack(np.broadcast_arrays(*spent[:4])), axis=0)
    repeats = _mean(columns["repeat"], part, times=False)
    for row, operator in enumerate(_names(part)):
        time_s = float(spent[4][row])
        if time_s <= 0.0:
            continue
        bounded = BOUNDS[which[row]]
        rate = _rate(part, row, bounded)
        yield Line(
            phase=name,
            name=operator,
            kind=part.table.kinds[row],
            repeat=float(repeats[row]),
            time_s=time_s,
            share=time_s / total_s,
            bound=bounded,
            of_light=float(least_s[row]) / time_s,
            rate=rate,
            origin=found.basis.origin_of(rate),
            **_asked(part, row),
        )


def _asked(part: Part, row: int) -> dict[str, Any]:
    """Which source timed an operator, and how sure it is of it at worst."""
    asked = part.ops[0].asked
    if asked is None:
        return {}
    used = np.unique(asked.source[row])
    return {
        "source": "+".join(asked.names[index] for index in used),
        "uncertainty": float(np.max(asked.uncertainty[row])),
    }


def _names(part: Part) -> tuple[str, ...]:
    names: tuple[str, ...] = getattr(part.table, "names")  # noqa: B009 - tables of one scenario
    return names


def _mean(values: Array, part: Part, times: bool = True) -> Array:
    """Per operator, the mean over the context, times how often the part runs."""
    values = np.asarray(values)
    rows = len(part.table.kinds)
    if part.quadrature and values.ndim > 1 and values.shape[1] == len(SHARES):
        values = values @ SHARES
    flat = np.broadcast_to(values.reshape(values.shape[0], -1)[:, 0], (rows,))
    return flat * float(part.times) if times else flat


def _rate(part: Part, row: int, bounded: str) -> str:
    """The rate that weighs most in an operator, given what bounds it."""
    if bounded == "overhead":
        return _OVERHEAD
    kind = part.table.kinds[row]
    named = _OF_KIND.get((kind, bounded))
    if named is not None:
        return named
    if bounded == "compute":
        return GEMM_RATE[COMPUTE[int(_cell(part, "compute", row))]]
    bits = _cell(part, "weight_bits", row)
    return "mem_eff" if bits >= 15 else "mem_eff_8" if bits >= 7 else "mem_eff_4"


def _cell(part: Part, column: str, row: int) -> float:
    values = part.table.columns[column]
    return float(values[row if len(values) > 1 else 0].flat[0])


def _rest(name: str, phase: Phase, found: Answer) -> Iterator[Line]:
    """What no operator accounts for: the host, and waiting for other stages of the pipeline."""
    total_s, host_s = float(phase.total_s), float(phase.host_s)
    fetch_s = float(phase.fetch_s)
    hops_s = total_s - host_s - fetch_s - float(phase.device_s)
    extra: tuple[tuple[str, float, str, Any], ...] = (
        ("host", host_s, "overhead", "step_s"),
        ("pipeline", hops_s, "network", "link_eff"),
        ("offloaded", fetch_s, OFFLOADED, "host_link_eff"),
        ("overlapped", -_hidden_s(phase) if found.plan.overlap > 1 else 0.0, "network", "link_eff"),
    )
    for label, time_s, bounded, rate in extra:
        if abs(time_s) > max(_ABSENT, 1e-9 * total_s):
            origin = found.basis.origin_of(rate)
            yield Line(
                name, label, label, 1.0, time_s, time_s / total_s, bounded, 0.0, rate, origin
            )


def _hidden_s(phase: Phase) -> float:
    """What the operators of overlapping micro-batches take together beyond their phase."""
    summed = sum(float(_mean(part.ops[0].total_s, part).sum()) for part in phase.parts)
    return summed - float(phase.device_s)


def _by_bound(listed: list[Line], phase: str) -> dict[str, float]:
    times = dict.fromkeys(ALL_BOUNDS, 0.0)
    for line in listed:
        if line.phase == phase:
            times[line.bound] += line.time_s
    return times
