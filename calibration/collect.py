"""From the corpus to fits: which measured rows go into the calibration of which (system, engine).

Nothing is lost on the way: every record ends either as a `Case` of one group or among the left-out
ones with its reason, and rows that beat the speed of light are told apart from both.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.engines import engine_on, told
from analyzer.errors import InputError
from analyzer.memory import capacity
from analyzer.predict import ROOM_DOUBT, grown
from analyzer.quirks import one_text, repaired, unwarmed
from analyzer.records import Record, Scenario
from analyzer.records_arrival import FIXED_BATCHES
from analyzer.resolve import Question, check_heads, question
from analyzer.steady import polled
from analyzer.system import System
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.workload import Workload
from calibration.corpus import NEEDS, engine_class_of, reason_against
from calibration.impossible import (
    KNOWN_PROMPTS,
    SAME_PROMPTS,
    alike_prompts,
    beats_light,
    doubts,
    known_prompts,
)
from calibration.problem import METRICS, Case, Problem, build

ASSUMED_PROMPT = 256.0
"""Prompt length where a served task's is not published; its answers are many times longer."""

Key = tuple[str, str]
"""System name and engine class."""


class LeftOut(NamedTuple):
    """A record that no fit uses, and why."""

    record: Record
    reason: str


class Group(NamedTuple):
    """All measurements of one (system, engine) that a fit may use."""

    system: System
    engine: str
    problem: Problem
    records: tuple[Record, ...]
    """The record of each case, in the order of the problem's cases."""

    @property
    def key(self) -> Key:
        return self.system.name, self.engine

    @property
    def served(self) -> bool:
        """Whether most rows were measured under a load."""
        return 2 * sum(case.looped for case in self.problem.cases) > len(self.problem.cases)


class Collected(NamedTuple):
    """The corpus, sorted out."""

    groups: dict[Key, Group]
    left_out: tuple[LeftOut, ...]


def collect(records: Iterable[Record], only: str | None = None) -> Collected:
    """Sort records into groups; `only` restricts to one system, by its catalog name."""
    cases: dict[Key, list[tuple[Case, Record]]] = defaultdict(list)
    systems: dict[Key, System] = {}
    left_out: list[LeftOut] = []
    for given in records:
        record = _as_run(given)
        observed, reason = _observed(record)
        if reason:
            left_out.append(LeftOut(given, reason))
            continue
        try:
            if only is not None and load_system(record.scenario.hardware).name != only:
                continue
            asked = question(_completed(record), record.provenance.date)
            if asked.engine.uneven_heads:
                check_heads(asked.plan, asked.model)
            _refuse_foreign_cache(asked)
            _refuse_beyond_graphs(asked)
            source = record.provenance.source
            asked = _as_written(asked, source)
            case = _paced(case_of(asked, observed, source), record)
            case = case._replace(cold=unwarmed(record.scenario, source))
        except InputError as error:
            left_out.append(LeftOut(given, str(error)))
            continue
        key = (asked.system.name, engine_class_of(record))
        systems[key] = asked.system
        cases[key].append((case, given))
    groups = {}
    for key, members in cases.items():
        group, impossible = _group(systems[key], key[1], members)
        left_out.extend(impossible)
        if group is not None:
            groups[key] = group
    return Collected(groups, tuple(left_out))


def _observed(record: Record) -> tuple[tuple[float, float, float], str]:
    """Usable TTFT, TPOT and E2E (NaN where not), and why there is none."""
    if record.kind != "e2e":
        return (np.nan, np.nan, np.nan), f"a record of kind {record.kind}, not end to end"
    arrival = record.scenario.arrival
    if arrival is not None and arrival.kind == "offline":
        reason = reason_against(record, NEEDS["offline tok/s"])
        return (np.nan, np.nan, np.nan), "" if reason is None else reason[1]
    fixed = arrival is None or arrival.kind in FIXED_BATCHES
    if not fixed and arrival is not None and arrival.kind != "closed_loop":
        return (np.nan, np.nan, np.nan), f"measured under {arrival.kind} arrivals"
    names = ("ttft", "tpot", "e2e") if fixed else ("served ttft", "served tpot", "e2e")
    values, reasons = [], []
    for name, metric in zip(names, METRICS, strict=True):
        reason = reason_against(record, NEEDS[name]) or _other_meaning(record, metric)
        values.append(record.metrics[metric] if reason is None else np.nan)
        if reason is not None and reason[0] != "not_measured":
            reasons.append(reason[1])
    if any(np.isfinite(values)):
        return (values[0], values[1], values[2]), ""
    return (np.nan, np.nan, np.nan), reasons[0] if reasons else "the row gives no latency"


def _other_meaning(record: Record, metric: str) -> tuple[str, str] | None:
    """Figures under a familiar name that mean something else at this engine."""
    if metric != "ttft_s":
        return None
    engine, scenario = engine_class_of(record), record.scenario
    if engine == "lmdeploy" and (scenario.concurrency or 1) > 1:
        return "in_turn", "TTFT averaged over sequences that were prefilled in turn"
    if engine == "autoawq" and "GEMV" in scenario.variant:
        return "gemv_prefill", "prefill through a kernel made for one token"
    return None


def _as_run(record: Record) -> Record:
    """The record with its source's habits undone."""
    ran = repaired(record.scenario, record.provenance.source)
    return record if ran is record.scenario else msgspec.structs.replace(record, scenario=ran)


def _completed(record: Record) -> Scenario:
    """The scenario with what a metric that was measured does not need but counting does."""
    scenario = record.scenario
    changes = {}
    if scenario.input_tokens is None and (scenario.output_tokens or 0) > 2 * ASSUMED_PROMPT:
        changes["input_tokens"] = ASSUMED_PROMPT
    if scenario.arrival is not None and scenario.arrival.kind == "offline":
        changes["concurrency"] = 1.0
    if scenario.output_tokens is None and "ttft_s" in record.metrics:
        changes["output_tokens"] = 1.0
    return msgspec.structs.replace(scenario, **changes) if changes else scenario


def _refuse_foreign_cache(asked: Question) -> None:
    """An fp8 cache on a device without fp8 runs through another attention kernel altogether."""
    if asked.plan.kv == "fp8" and "fp8" not in asked.system.device.peak_flops:
        raise InputError(
            f"an fp8 cache on {asked.system.name}, which has no fp8: another attention kernel, "
            f"measured on one model only"
        )


def _refuse_beyond_graphs(asked: Question) -> None:
    """Early engines replay graphs up to a length; beyond it they run in another regime."""
    limit = asked.engine.graph_context
    if limit is not None and asked.workload.input_tokens + asked.workload.output_tokens > limit:
        raise InputError(
            f"longer than the {limit} tokens up to which {asked.engine.name} replays graphs: "
            f"kernels issued one by one, another regime"
        )


def _as_written(asked: Question, source: str) -> Question:
    """The question with what the source's script did to its prompts."""
    if not one_text(asked.engine, source):
        return asked
    return asked._replace(plan=msgspec.structs.replace(asked.plan, alike=True))


def case_of(asked: Question, observed: tuple[float, float, float], campaign: str = "") -> Case:
    """The case of a question and its times (NaN: not measured); InputError where it is too big."""
    queued = asked.arrival.kind == "offline"
    looped = queued or asked.arrival.kind == "closed_loop"
    whole = _whole(asked.workload)
    kind = told(engine_on(asked.engine.name, asked.system.device), asked.plan)
    memory_B = asked.system.device.memory_B * kind.memory_share
    growth = grown("closed_loop" if looped else "static", kind)
    room = float(capacity(asked.laid, whole, memory_B, growth, kind))
    if room < 1.0:
        raise _too_large(asked)
    if not looped and room * (1.0 + ROOM_DOUBT) < whole.batch:
        raise _waits(asked, room)
    most = min(room, kind.max_sequences * float(asked.plan.dp))
    if queued:
        whole = msgspec.structs.replace(whole, batch=float(np.floor(max(most, 1.0))))
    running = min(float(whole.batch), max(most, 1.0)) if looped else 0.0
    return Case(
        model=asked.model,
        plan=asked.plan,
        workload=whole,
        observed=observed,
        group=asked.model.name,
        looped=looped,
        queued=queued,
        running=running,
        step_tokens=kind.step_tokens,
        poll_steps=float(polled(kind, asked.plan, whole.batch / asked.plan.dp)),
        campaign=campaign,
    )


def _paced(case: Case, record: Record) -> Case:
    """Where requests always wait: the time per token at which so many running write so much."""
    if not case.queued:
        return case
    return case._replace(observed=(np.nan, case.running / record.metrics["output_tok_s"], np.nan))


def _whole(load: Workload) -> Workload:
    return msgspec.structs.replace(load, input_tokens=max(load.input_tokens, 1.0))


def _too_large(asked: Question) -> InputError:
    return InputError(f"{asked.model.name} does not fit {asked.system.name} as counted")


def _waits(asked: Question, room: float) -> InputError:
    return InputError(
        f"{asked.workload.batch:.0f} sequences do not fit the cache ({room:.0f} do): the engine "
        f"queued or preempted, and how is not stated"
    )


def _group(
    system: System, engine: str, members: list[tuple[Case, Record]]
) -> tuple[Group | None, list[LeftOut]]:
    """Count a group's cases and set aside what no machine could have done."""
    why_not = doubts([case for case, _ in members])
    out = [LeftOut(member[1], why) for member, why in zip(members, why_not, strict=True) if why]
    members = [member for member, why in zip(members, why_not, strict=True) if not why]
    if not members:
        return None, out
    problem = build([case for case, _ in members], machine(system))
    impossible = beats_light(problem)
    kept = []
    alike = alike_prompts(members, impossible)
    known = known_prompts(members, problem, np.where(impossible, np.nan, problem.observed))
    for (case, record), beats, same, hurried in zip(members, impossible, alike, known, strict=True):
        possible = tuple(np.where(beats, np.nan, case.observed))
        if same or hurried:
            out.append(LeftOut(record, SAME_PROMPTS if same else KNOWN_PROMPTS))
        elif np.isfinite(possible).any():
            kept.append((case._replace(observed=possible), record))
        if beats.any():
            names = ", ".join(name for name, beaten in zip(METRICS, beats, strict=True) if beaten)
            out.append(LeftOut(record, f"{names}: faster than the hardware's peaks allow"))
    if not kept:
        return None, out
    counted = build(_weighted([case for case, _ in kept]), machine(system))
    return Group(system, engine, counted, tuple(record for _, record in kept)), out


def _weighted(cases: list[Case]) -> list[Case]:
    """Models with many rows must not drown the others: weight falls with the root of rows.

    Nor may a row or two under a load decide a rate: what is the model's own in them (some 25 %,
    where rows differ by 5 %) cannot be told from the machine's until several loads were measured.
    """
    counts = Counter(case.group for case in cases)
    middle, most = float(np.median(list(counts.values()))), max(counts.values())
    several = min(SEVERAL, most)

    def weight(case: Case) -> float:
        even = float((middle / counts[case.group]) ** 0.5)
        return min(even, (counts[case.group] / several) ** 2) if case.looped else even

    return [case._replace(weight=weight(case)) for case in cases]


SEVERAL = 5
"""Rows of one model under a load from which on they count in full."""
