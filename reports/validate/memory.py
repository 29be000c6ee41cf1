"""Weights, cache and peak against every row whose figure is a real footprint."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.counting.cache import cache_B
from analyzer.counting.footprint import weights_B
from analyzer.errors import InputError
from analyzer.memory import footprint_B
from analyzer.records import Record
from analyzer.resolve import Question, question
from calibration.corpus import MEM_DIR, NEEDS, load_corpus, usable
from calibration.tally import tally
from reports.validate.table import Cell, Section, Table, table

Array = NDArray[np.float64]
TEXT = (
    "Peaks are what an allocator or the engine itself counted; figures that include a pool set "
    "aside in advance are no footprint and are left out by the reader of the data. Predicted is "
    "what `predict` prints as the allocator's peak for that engine and release, on all devices "
    "together. What each engine holds, and what says so, is in docs/memory.md: nothing is fitted. "
    "Some rules were first recognised in some of these rows; the second table leaves those out, by "
    "model, format and release. All rows were in sight when the rules were written down: it shows "
    "that they carry over to other models, and is no blind test.",
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
    blind: bool
    """No rule was recognised in rows of this source, model family and release."""


SEEN_IN: dict[str, tuple[str, ...]] = {
    "autoawq": ("vicuna", "llama", "mistral", "deepseek", "aquila"),
    "llama_cpp_xiongjiedai": ("llama-7b", "llama-2-7b"),
    "optimum_benchmark": ("gptq", "7b"),
    "qwen_speed": ("qwen2-", "awq", "qwen2.5-7b"),
}
"""By source, what of a model's or format's name marks rows that a rule was recognised in."""


@cache
def memory_section() -> Section:
    """Weights and cache, then peaks."""
    records = load_corpus(MEM_DIR).records
    peaks, skipped = _peaks(records)
    blind = [peak for peak in peaks if peak.blind]
    tables = (
        _parts(records),
        _sources(peaks, "peaks", "**Peak**"),
        _sources(blind, "blind", "**Peak, rows in which no rule was recognised**"),
        _far(peaks),
        _skipped(skipped),
    )
    return Section("memory", "Memory", TEXT, tables)


def _asked(record: Record) -> Question:
    scenario = record.scenario
    changes: dict[str, object] = {}
    if record.provenance.source == "llama_cpp_xiongjiedai":
        changes |= {"input_tokens": LLAMA_CPP_CONTEXT, "output_tokens": 0.0}
        # Rows of matrices are dealt out, cache and buffers stay on one device: all is as on one.
        changes |= {"tp": 1, "pp": 1, "gpus": 1}
    elif scenario.output_tokens is None:
        changes["output_tokens"] = DEFAULT_OUTPUT
    return question(msgspec.structs.replace(scenario, **changes), record.provenance.date)


def _whole(asked: Question) -> tuple[float, float]:
    """Weights and cache, which do not depend on how they are cut."""
    plan = msgspec.structs.replace(asked.plan, tp=1, pp=1, dp=1, ep=1)
    laid = asked._replace(plan=plan).laid
    load = asked.workload
    kept = cache_B(laid.model, laid.layout, load.input_tokens + load.output_tokens)
    return float(weights_B(laid.model, laid.layout)), float(kept.kv_B * load.batch)


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
        for name, value in zip(("weights_B", "kv_cache_B"), _whole(asked), strict=True):
            if name in record.metrics:
                place = (record.provenance.source, name.removesuffix("_B").replace("_", " "))
                pair = (value, record.metrics[name])
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
        peaks.append(Peak(record, record.metrics["peak_mem_B"], predicted, _blind(record)))
    return peaks, skipped


def _blind(record: Record) -> bool:
    scenario = record.scenario
    named = f"{scenario.model} {scenario.weight_precision} {scenario.variant}".lower()
    return not any(word in named for word in SEEN_IN.get(record.provenance.source, ()))


def _sources(peaks: Sequence[Peak], name: str, title: str) -> Table:
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
        "MAPE:percent",
        "median:percent",
        "p90:percent",
        "bias:signed",
    )
    return table(name, columns, lines, title)


def _place(peak: Peak) -> tuple[str, str]:
    scenario = peak.record.scenario
    return peak.record.provenance.source, f"{scenario.engine} {scenario.engine_version}".split(
        " build"
    )[0].strip()


def _errors(peaks: Sequence[Peak]) -> list[Cell]:
    measured = np.array([peak.measured for peak in peaks])
    found = tally(np.array([peak.predicted for peak in peaks]), measured)
    return [found.mape, found.median, found.p90, found.bias]


def _far(peaks: Sequence[Peak]) -> Table:
    order = sorted(peaks, key=lambda peak: -abs(np.log(peak.predicted / peak.measured)))
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
