"""Weights, cache and peak against every row whose figure is a real footprint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import InputError
from analyzer.memory import Memory, footprint_B, memory
from analyzer.records import Record
from analyzer.resolve import Question, question
from calibration.corpus import MEM_DIR, NEEDS, load_corpus, usable
from calibration.tally import Tally, tally
from reports.validate import autoawq_memory
from reports.validate.table import Cell, Section, Table, table

Array = NDArray[np.float64]
TEXT = (
    "Peaks are what an allocator or the engine itself counted; figures that include a pool set "
    "aside in advance are no footprint and are left out by the reader of the data. “As predicted” "
    "is what `predict` prints. Two older releases of transformers keep more than they need, and "
    "the second comparison counts that as well: up to 4.44 the logits of every prompt position "
    "(in fp32), and before the cache became an object of its own the old cache while the new one "
    "is made, token by token. For AutoAWQ it counts joined copies of projections while "
    "a model is loaded, a cache as long as the answer, and attention scores with their softmax in "
    "fp32. These rules come from reading what those releases did, not from "
    "a fit.",
)
LLAMA_CPP_CONTEXT = 512.0
"""The cache that llama.cpp sets aside unless told otherwise, in tokens."""
UNSTATED = ("fastertransformer",)
"""Sources that do not say how they read the memory: shown, but not counted together."""
DEFAULT_OUTPUT = 2048.0
"""Output tokens of the speed benchmark that states its prompts only."""


class Peak(NamedTuple):
    """One row: bytes on all devices together."""

    record: Record
    measured: float
    predicted: float
    with_leftovers: float


@cache
def memory_section() -> Section:
    """Weights and cache, then peaks."""
    records = load_corpus(MEM_DIR).records
    peaks, skipped = _peaks(records)
    tables = (_parts(records), _sources(peaks), _far(peaks), _skipped(skipped))
    return Section("memory", "Memory", TEXT, tables)


def _asked(record: Record) -> Question:
    scenario = record.scenario
    changes: dict[str, object] = {}
    if record.provenance.source == "llama_cpp_xiongjiedai":
        changes |= {"input_tokens": LLAMA_CPP_CONTEXT, "output_tokens": 0.0}
        changes |= {"tp": 1, "pp": (scenario.tp or 1) * (scenario.pp or 1)}
    elif scenario.output_tokens is None:
        changes["output_tokens"] = DEFAULT_OUTPUT
    return question(msgspec.structs.replace(scenario, **changes), record.provenance.date)


def _alone(asked: Question) -> Memory:
    """Memory with everything on one device: weights and cache do not depend on how it is cut."""
    plan = msgspec.structs.replace(asked.plan, tp=1, pp=1, dp=1, ep=1)
    return memory(asked._replace(plan=plan).laid, asked.workload)


def _parts(records: Sequence[Record]) -> Table:
    """Weights and cache where a source measured them alone."""
    measured: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for record in records:
        if "weights_B" not in record.metrics:
            continue
        asked = _asked(record)
        if record.provenance.source != "llama_cpp_xiongjiedai":
            asked = asked._replace(
                workload=msgspec.structs.replace(asked.workload, output_tokens=0.0)
            )
        held = _alone(asked)
        for name, value in (("weights_B", held.weights_B), ("kv_cache_B", held.kv_B)):
            if name in record.metrics:
                place = (record.provenance.source, name.removesuffix("_B").replace("_", " "))
                pair = (float(value), record.metrics[name])
                measured.setdefault(place, []).append(pair)
    lines = [[*place, *_figures(np.array(pairs).T)] for place, pairs in sorted(measured.items())]
    columns = ("source", "part", "rows:count", "MAPE:percent", "median:percent", "bias:signed")
    return table("parts", columns, lines, "**Weights and cache**")


def _figures(pairs: Array) -> list[Cell]:
    found = tally(pairs[0], pairs[1])
    return [found.rows, found.mape, found.median, found.bias]


def _peaks(records: Sequence[Record]) -> tuple[list[Peak], list[tuple[Record, str]]]:
    peaks, skipped = [], []
    for record in usable(records, NEEDS["peak memory"]).used:
        try:
            asked = _asked(record)
        except InputError as error:
            skipped.append((record, str(error)))
            continue
        predicted = float(footprint_B(asked.laid, asked.workload))
        extra = LEFTOVERS.get(_release(record), _nothing)(asked)
        peaks.append(Peak(record, record.metrics["peak_mem_B"], predicted, predicted + extra))
    return peaks, skipped


def _release(record: Record) -> str:
    source, version = record.provenance.source, record.scenario.engine_version
    if source == "optimum_benchmark":
        return "transformers, cache as tuples"
    if source == "qwen_speed" and version.startswith("4.38"):
        return "transformers up to 4.44"
    if source == "autoawq":
        return "AutoAWQ from 0.2" if version.startswith("0.2") else "AutoAWQ before 0.2"
    return ""


def _nothing(asked: Question) -> float:
    return 0.0


def _all_logits(asked: Question) -> float:
    """Prefill with logits of every position, where that is more than the peak later on."""
    first = msgspec.structs.replace(asked.workload, output_tokens=1.0)
    plan = msgspec.structs.replace(asked.plan, tp=1, pp=1, dp=1, ep=1)
    laid = asked._replace(plan=plan).laid
    prefill = float(memory(laid, first, logits_everywhere=True).allocated_B)
    return max(0.0, prefill - float(memory(laid, asked.workload).allocated_B))


def _second_cache(asked: Question) -> float:
    """The old cache beside the new one at the last token, when no prompt is being read."""
    held = _alone(asked)
    second = float(held.kv_B) - float(held.activations_B) - float(held.logits_B)
    return max(second, _all_logits(asked))


def _instead(peak_B: Callable[[Question], float]) -> Callable[[Question], float]:
    """What a rule for the whole peak adds to the footprint, or takes from it."""
    return lambda asked: peak_B(asked) - float(footprint_B(asked.laid, asked.workload))


LEFTOVERS: dict[str, Callable[[Question], float]] = {
    "transformers up to 4.44": _all_logits,
    "transformers, cache as tuples": _second_cache,
    "AutoAWQ before 0.2": _instead(autoawq_memory.early_peak_B),
    "AutoAWQ from 0.2": _instead(autoawq_memory.peak_B),
}


def _sources(peaks: Sequence[Peak]) -> Table:
    places = sorted({_place(peak) for peak in peaks})
    lines: list[list[Cell]] = []
    for place in places:
        chosen = [peak for peak in peaks if _place(peak) == place]
        lines.append([*place, len(chosen), *_errors(chosen)])
    known = [peak for peak in peaks if _place(peak)[0] not in UNSTATED]
    if known:
        lines.append(["all whose reading is stated", "", len(known), *_errors(known)])
    columns = (
        "source",
        "engine",
        "rows:count",
        "as predicted MAPE:percent",
        "median:percent",
        "p90:percent",
        "bias:signed",
        "with leftovers MAPE:percent",
        "with leftovers median:percent",
        "with leftovers bias:signed",
    )
    return table("peaks", columns, lines, "**Peak**")


def _place(peak: Peak) -> tuple[str, str]:
    scenario = peak.record.scenario
    return peak.record.provenance.source, f"{scenario.engine} {scenario.engine_version}".split(
        " build"
    )[0].strip()


def _errors(peaks: Sequence[Peak]) -> list[Cell]:
    measured = np.array([peak.measured for peak in peaks])
    plain = tally(np.array([peak.predicted for peak in peaks]), measured)
    full: Tally = tally(np.array([peak.with_leftovers for peak in peaks]), measured)
    return [plain.mape, plain.median, plain.p90, plain.bias, full.mape, full.median, full.bias]


def _far(peaks: Sequence[Peak]) -> Table:
    order = sorted(peaks, key=lambda peak: -abs(np.log(peak.with_leftovers / peak.measured)))
    lines: list[list[Cell]] = []
    seen: set[tuple[str, str]] = set()
    for peak in order:
        place = (peak.record.provenance.source, peak.record.scenario.model)
        if place in seen or len(lines) == 10:
            continue
        seen.add(place)
        scenario = peak.record.scenario
        lines.append(
            [
                *place,
                scenario.weight_precision,
                scenario.concurrency,
                scenario.input_tokens,
                peak.measured / 1e9,
                peak.predicted / 1e9,
                peak.with_leftovers / 1e9,
            ]
        )
    columns = (
        "source",
        "model",
        "weights",
        "batch:count",
        "prompt:count",
        "measured GB:number",
        "predicted GB:number",
        "with leftovers GB:number",
    )
    return table("far", columns, lines, "**The farthest, one per source and model**")


def _skipped(skipped: Sequence[tuple[Record, str]]) -> Table:
    counts: dict[tuple[str, str], int] = {}
    for record, why in skipped:
        place = (record.provenance.source, why)
        counts[place] = counts.get(place, 0) + 1
    lines: list[list[Cell]] = [[*place, number] for place, number in sorted(counts.items())]
    columns = ("source", "reason", "rows:count")
    return table("skipped", columns, lines, "**Rows that could not be predicted**")
