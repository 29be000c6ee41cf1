"""Sources scored on the operators of real models: the same held-out rows for each.

Of a device's measured rows, those nearest to what Llama-3-70B, Mixtral 8x7B and DeepSeek-V3 ask of
it are taken, 200 in all, whole shapes are held out, and every source predicts them. How the table
interpolates is chosen on other devices, so that nothing of the scored ones enters it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from analyzer.errors import TooFewGroups
from analyzer.models_catalog import load
from analyzer.optable import OpTable
from analyzer.phases import count_decode, count_prefill, lay
from analyzer.plan import Plan
from analyzer.sources.describe import COORDINATES, describe
from analyzer.sources.operator_rows import OperatorRows
from analyzer.sources.operator_work import shape_rows
from analyzer.sources.table import chip_of, gate_rows
from analyzer.system import System
from analyzer.timing.kernels import Chip
from analyzer.timing.kernels.common import Array
from analyzer.workload import Workload
from calibration.operators import geomean_error
from calibration.operators_compare import Compared, compare

MODELS = ("llama-3-70b", "mixtral-8x7b", "deepseek-v3")
RANKS = (1, 2, 4, 8)
LOADS = ((1, 512), (4, 1024), (16, 1024), (64, 2048), (256, 1024))
"""(sequences, prompt tokens)."""
QUOTAS = {"gemm": 110, "attn_decode": 45, "attn_prefill": 20, "moe": 25}
"""Operators of each class among the 200."""
CLASSES = {
    "gemm": ("vllm", "", ""),
    "attn_decode": ("vllm", "bf16", ""),
    "attn_prefill": ("vllm", "bf16", ""),
    "moe": ("", "", "balanced"),
}
"""Per class: beginning of the software's name, cache format, routing. 16-bit weights."""


class Scored(NamedTuple):
    """Log errors of one class on one device, of the chosen rows; NaN where a source is silent."""

    device: str
    op: str
    software: str
    measured_s: Array
    analytic: Array
    residual: Array
    table: Array


def scored(rows: OperatorRows, system: System) -> list[Scored]:
    """The chosen operators of each class that the device has rows of, of two shapes at least."""
    wanted = wanted_shapes(system)
    found = []
    for op, quota in QUOTAS.items():
        members = one_class(rows, op)
        if members is None:
            continue
        chip = chip_of(system, "bf16")
        try:
            held = compare(members, chip)
        except TooFewGroups:
            continue
        chosen = nearest_rows(held.rows, op, chip, wanted[op], quota)
        found.append(_taken(system.name, op, held, chosen))
    return found


def _taken(device: str, op: str, held: Compared, chosen: Array) -> Scored:
    software = str(held.rows.text["software"][0])
    return Scored(
        device, op, software, held.rows.seconds[chosen],
        held.analytic[chosen], held.residual[chosen], held.table[chosen],
    )  # fmt: skip


def one_class(rows: OperatorRows, op: str) -> OperatorRows | None:
    """The largest 16-bit class of an operator on a device, of the software that is meant."""
    software, kv_dtype, routing = CLASSES[op]
    keep = (rows.text["op"] == op) & (rows.text["dtype"] == "bf16")
    keep &= np.char.startswith(rows.text["software"], software)
    if kv_dtype:
        keep &= rows.text["kv_dtype"] == kv_dtype
    if routing:
        keep &= np.isin(rows.text["routing"], (routing, ""))
    members = rows.take(keep)
    if not len(members):
        return None
    names, counts = np.unique(members.text["software"], return_counts=True)
    return members.where(software=str(names[np.argmax(counts)]))


def wanted_shapes(system: System) -> dict[str, Array]:
    """Coordinates, per class, of every operator of the models under common plans and loads."""
    places: dict[str, list[Array]] = {op: [] for op in QUOTAS}
    for table in _tables():
        for index in range(len(table.names)):
            described = describe(table, index)
            if described is not None and described.op in places:
                places[described.op].append(described.coordinates[0])
    return {op: np.unique(np.concatenate(parts), axis=0) for op, parts in places.items() if parts}


def _tables() -> Iterator[OpTable]:
    for name in MODELS:
        model = load(name)
        for ranks in RANKS:
            plan = Plan(tp=ranks, weights="bf16", activations="bf16", kv="bf16")
            laid = lay(msgspec.structs.replace(model, max_context=None), plan)
            for batch, prompt in LOADS:
                asked = Workload(batch=batch, input_tokens=prompt, output_tokens=128)
                for step in (*count_prefill(laid, asked), *count_decode(laid, asked)):
                    yield from step.tables


def nearest_rows(rows: OperatorRows, op: str, chip: Chip, wanted: Array, quota: int) -> Array:
    """Positions of the measured rows nearest to any wanted shape, each once."""
    shaped = shape_rows(rows, op, "bf16", chip)
    columns = [shaped.feature_names.index(name) for name in COORDINATES[op]]
    points = shaped.features[:, columns]
    away = np.full(len(points), np.inf)
    for start in range(0, len(wanted), 256):
        apart = points[:, None, :] - wanted[None, start : start + 256, :]
        away = np.minimum(away, np.square(apart).sum(axis=2).min(axis=1))
    chosen: Array = np.sort(np.argsort(away, kind="stable")[:quota])
    return chosen


class Line(NamedTuple):
    """Errors of all sources on one device and class, or on all classes together."""

    device: str
    op: str
    operators: int
    analytic: float
    residual: float
    table: float
    answered: float
    """Share of the operators that the table answered."""
    biased: float
    """Mean of ln(table/measured), as a ratio: which way it is off."""


def lines(parts: Sequence[Scored]) -> list[Line]:
    """One line per class, and one for the device."""
    listed = [_line(part.op, [part]) for part in parts]
    return [*listed, _line("all", parts)]


def _line(op: str, parts: Sequence[Scored]) -> Line:
    analytic, residual, table = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("analytic", "residual", "table")
    )
    known = ~np.isnan(table)
    return Line(
        parts[0].device,
        op,
        len(table),
        geomean_error(analytic),
        geomean_error(residual),
        geomean_error(table[known]) if known.any() else float("nan"),
        float(known.mean()),
        float(np.expm1(table[known].mean())) if known.any() else float("nan"),
    )


def gated(rows: OperatorRows, chip: Chip) -> OperatorRows:
    """The possible rows of a class."""
    return gate_rows(rows, chip, {})
