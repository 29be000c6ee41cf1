"""A prediction with all that must be said beside it: its basis, its interval, its warnings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from analyzer import precision
from analyzer.basis import Basis, Interval
from analyzer.calibrated import Hull
from analyzer.engines import EngineClass, engine, engine_on, generations
from analyzer.errors import ConfigError
from analyzer.model import Model
from analyzer.peaks import Peaks, peaks
from analyzer.phases import lay
from analyzer.plan import Plan, layout
from analyzer.predict import Prediction, predict
from analyzer.resolve import activation_format, cache_format, compute_format
from analyzer.steady import polled
from analyzer.system import System
from analyzer.workload import Workload

if TYPE_CHECKING:
    from analyzer.sources.credit import Credit


class Answer(NamedTuple):
    """What was asked and what came of it. Numbers may be arrays, as in `Prediction`."""

    model: Model
    system: System
    plan: Plan
    workload: Workload
    arrival: str
    basis: Basis
    prediction: Prediction
    warnings: tuple[str, ...]

    def interval(self, metric: str) -> Interval | None:
        """The measured interval around one metric; none where nothing like it was measured. Where
        other sources were asked, what follows from their own uncertainties of operators."""
        if self.plan.offload is not None:
            return None
        if self.basis.ladder is not None and metric != "peak_mem_B":
            return self._by_sources(metric)
        values = (
            self.prediction.memory.total_B
            if metric == "peak_mem_B"
            else getattr(self.prediction, metric)
        )
        asked = _asked(self.plan, self.workload)
        known = was_measured(self.basis, self.plan, self.model.name, self.arrival, asked)
        return self.basis.interval(metric, values, known)

    def peaks(self) -> Peaks:
        """The peak of memory as the framework, the driver and the engine's log would show it."""
        device = self.system.device
        laid, kind = lay(self.model, self.plan), engine_on(self.plan.engine, device)
        return peaks(laid, self.workload, device.memory_B, self.prediction.memory, kind)

    def _by_sources(self, metric: str) -> Interval:
        from analyzer.sources.credit import LEVEL, doubts, factors

        first, later = self.credits()
        low, high = factors(doubts(self.prediction, first, later)[metric])
        value = np.asarray(getattr(self.prediction, metric))
        return Interval(LEVEL, value * low, value * high)

    def credits(self) -> tuple[Credit, Credit]:
        """Who stands for prefill and decoding, where other sources were asked."""
        from analyzer.sources.credit import credit

        ladder = self.basis.ladder
        if ladder is None:
            raise ConfigError("no sources were asked: the rates alone answered")
        return credit(self.prediction.prefill, ladder), credit(self.prediction.decode, ladder)


def answer(
    model: Model,
    system: System,
    plan: Plan,
    workload: Workload,
    basis: Basis,
    arrival: str = "static",
) -> Answer:
    """Predict, and say how far to trust it."""
    settled = settle(plan, model, basis, system)
    check_arithmetic(settled, model, system)
    found = predict(model, system, settled, workload, basis.rates, arrival, on=basis.on(system))
    said = [
        *basis.warnings,
        *_about_arithmetic(settled, model, system),
        *_about_room(found, workload),
        *_about_polls(settled, system, workload, arrival),
        *_about_hull(basis, settled, model, workload, arrival),
        *_about_offload(basis, settled),
    ]
    return Answer(model, system, settled, workload, arrival, basis, found, tuple(said))


def settle(plan: Plan, model: Model, basis: Basis, system: System | None = None) -> Plan:
    """The plan with what it leaves open decided: the engine's habits, the formats."""
    name = _engine(plan, basis)
    kind = engine(name)
    weights = plan.weights or model.native_weights
    return msgspec.structs.replace(
        plan,
        engine=name,
        weights=weights,
        kv=cache_format(plan.kv, weights, kind),
        compute=compute_format(plan.compute, weights, system) if system else plan.compute,
        micro_batches=plan.micro_batches if kind.pipelined else 1,
        chunk_tokens=kind.chunk_tokens if plan.chunk_tokens is None else plan.chunk_tokens,
        fused=kind.fused,
        flash=kind.flash,
        chunks_overlap=kind.chunks_overlap,
    )


def _engine(plan: Plan, basis: Basis) -> str:
    """The engine that is named, in the generation that was measured; else the measured one."""
    measured = basis.calibration.engine if basis.calibration else ""
    if plan.engine and measured not in generations(plan.engine):
        return plan.engine
    return measured or plan.engine


def formats(model: Model, kind: EngineClass, weights: str, kv: str, activations: str) -> Plan:
    """A one-device plan with the formats that are stated, and the usual ones where none is."""
    stored = precision.stated(weights) or model.native_weights
    return Plan(
        weights=stored,
        activations=activations or activation_format(stored),
        kv=cache_format(precision.stated(kv), stored, kind),
        engine=kind.name,
    )


def check_arithmetic(plan: Plan, model: Model, system: System) -> None:
    """Refuse formats that the device cannot compute in at all."""
    for dtype in _arithmetic(plan, model):
        system.device.execution(dtype)


def _arithmetic(plan: Plan, model: Model) -> tuple[str, ...]:
    from analyzer.optable import COMPUTE

    laid = layout(model, plan)
    codes = {laid.compute, laid.attention_compute, laid.head_compute}
    if laid.expert_compute is not None:
        codes.add(laid.expert_compute)
    return tuple(COMPUTE[int(code)] for code in sorted(codes))


def _about_arithmetic(plan: Plan, model: Model, system: System) -> Iterator[str]:
    for dtype in _arithmetic(plan, model):
        runs = system.device.execution(dtype).dtype
        if runs != dtype and not any({runs, dtype} <= alike for alike in _ALIKE):
            yield f"{system.device.name} has no {dtype} arithmetic: computed in {runs}"


def _about_room(found: Prediction, workload: Workload) -> Iterator[str]:
    waiting = np.asarray(found.running) < np.asarray(workload.batch)
    if np.any(waiting):
        fits = float(np.min(found.running))
        asked = float(np.max(np.broadcast_to(workload.batch, waiting.shape)[waiting]))
        yield f"{fits:.0f} of {asked:.0f} sequences fit the memory at once; the others wait"


def _about_polls(plan: Plan, system: System, load: Workload, arrival: str) -> Iterator[str]:
    if plan.poll_steps is not None or arrival != "closed_loop":
        return
    kind = engine_on(plan.engine, system.device)
    most = float(np.max(polled(kind, plan, np.asarray(load.batch) / plan.dp)))
    if most > 1.0:
        yield (
            f"{kind.name} is taken to look for new requests every {most:.0f} steps, as recipes "
            f"for {system.device.family} start it; --poll-steps 1 if yours looks every step"
        )


def _about_offload(basis: Basis, plan: Plan) -> Iterator[str]:
    if plan.offload is not None:
        share, origin = basis.rates.host_link_eff, basis.origin_of("host_link_eff")
        yield (
            f"offloaded: the host's link is taken at {share:g} of its figure ({origin}), fully "
            f"overlapped, and no measured interval applies"
        )


def _about_hull(
    basis: Basis, plan: Plan, model: Model, load: Workload, arrival: str
) -> Iterator[str]:
    hull = basis.calibration.hull if basis.calibration else None
    if hull is None:
        return
    for name, values in _asked(plan, load).items():
        low, high = getattr(hull, name)
        outside = outside_of(hull, name, values)
        if np.any(outside):
            first = float(np.asarray(values, dtype=np.float64)[outside].flat[0])
            yield (
                f"extrapolates: {name} {first:g} lies outside of the measured {low:g} to {high:g}"
            )
    yield from _about_kinds(hull, plan, arrival)


def _asked(plan: Plan, load: Workload) -> dict[str, Any]:
    """The numbers of a scenario that a hull bounds."""
    return {
        "batch": load.batch,
        "input_tokens": load.input_tokens,
        "output_tokens": load.output_tokens,
        "devices": plan.devices,
    }


def was_measured(
    basis: Basis, plan: Plan, model: str, arrival: str, asked: Mapping[str, Any]
) -> Any:
    """Where the model, the formats and the load were measured, and every number lies between
    measured ones."""
    hull = basis.calibration.hull if basis.calibration else None
    if hull is None or basis.borrowed or model not in hull.models:
        return False
    if any(True for _ in _about_kinds(hull, plan, arrival)):
        return False
    outside: Any = False
    for name, values in asked.items():
        outside = outside | outside_of(hull, name, values)
    return np.logical_not(outside)


_ALIKE = ({"bf16", "fp16"}, {"fp8", "fp8-block"})
"""Formats of as many bits and the same arithmetic: sources call both kinds of 8 bits "fp8"."""


def _about_kinds(hull: Hull, plan: Plan, arrival: str) -> Iterator[str]:
    mine = precision.lookup(plan.weights).name
    seen = {precision.lookup(name).name for name in hull.weights if name}
    if seen and not seen & next((alike for alike in _ALIKE if mine in alike), {mine}):
        yield f"extrapolates: {mine} weights; measured were {', '.join(sorted(seen))}"
    if (
        hull.arrivals
        and arrival not in hull.arrivals
        and not (arrival == "static" and "single" in hull.arrivals)
    ):
        yield f"extrapolates: {arrival} arrivals; measured were {', '.join(hull.arrivals)}"


def outside_of(hull: Hull, name: str, values: Any) -> Any:
    """Where values leave the measured range; a hair's breadth of rounding is allowed."""
    low, high = getattr(hull, name)
    numbers = np.asarray(values, dtype=np.float64)
    return (numbers < low * (1 - 1e-9)) | (numbers > high * (1 + 1e-9))
