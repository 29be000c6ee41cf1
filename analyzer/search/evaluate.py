"""Predictions of whole structures at once, as flat columns: one row per plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import CapacityError
from analyzer.predict import Prediction, predict
from analyzer.search.question import Question
from analyzer.search.structures import Structure
from analyzer.workload import Workload

Array = NDArray[np.float64]

CHUNK = 32_768
"""Plans that are predicted at once: their arrays stay in the processor's caches."""
BATCHES = (
    *range(1, 33), *range(34, 65, 2), *range(68, 129, 4), *range(136, 257, 8),
    *range(272, 513, 16), *range(544, 1025, 32),
)  # fmt: skip
"""Tried where nothing else is asked for: neighbours differ by 6 % at most beyond 32."""


class Columns(NamedTuple):
    """One value per plan. Devices, tokens and seconds are of one replica."""

    offer: NDArray[np.int64]
    structure: NDArray[np.int64]
    layout: NDArray[np.int64]
    """Which of the structure's ranks."""
    batch: Array
    devices: Array
    ttft_s: Array
    tpot_s: Array
    e2e_s: Array
    tok_s: Array
    """Output tokens per second of one replica."""
    requests_per_s: Array
    running: Array
    memory_B: Array
    """Of the fullest device; NaN for disaggregated rows, whose workers differ."""
    busy: Array
    """Share of the time that reading prompts alone takes, under a steady load."""
    J_per_token: Array
    usd_per_million: Array
    offloaded: NDArray[np.bool_]
    """Weights rest in host memory."""
    prefill: NDArray[np.int64]
    """Row of the prefill workers' table; -1: prefill and decoding share their devices."""
    prefill_workers: NDArray[np.int64]
    decode_workers: NDArray[np.int64]

    @property
    def tok_s_per_device(self) -> Array:
        """Output tokens per second and device."""
        return np.asarray(self.tok_s / self.devices)

    @property
    def tok_s_per_user(self) -> Array:
        """Tokens per second that one user sees while an answer comes."""
        return np.asarray(1.0 / self.tpot_s)


def evaluate(
    question: Question, structures: tuple[Structure, ...], refused: Counter[str]
) -> Columns:
    """Predict every plan of every structure; what a host cannot hold is counted as refused."""
    parts: list[Columns] = []
    for place, structure in enumerate(structures):
        try:
            found = list(predicted(question, structure, question.arrival))
        except CapacityError as error:
            refused[str(error)] += len(structure.ranks)
            continue
        parts += [_columns(question, structure, place, *each) for each in found]
    if not parts:
        raise CapacityError(f"no plan is possible: {refused.most_common(1)[0][0]}")
    return joined(parts)


def predicted(
    question: Question, structure: Structure, arrival: str, batches: tuple[int, ...] = ()
) -> Iterator[tuple[int, Structure, Array, Prediction]]:
    """Batches down, layouts across, a slice of the layouts at a time: (first, slice, batch, …)."""
    system, basis = question.offers[structure.offer]
    model = question.model
    tried = batches or question.space.batch or BATCHES
    batch = np.array(tried, dtype=np.float64)[:, None]
    step = max(CHUNK // len(batch), 1)
    for first in range(0, len(structure.ranks), step):
        rows = structure._replace(ranks=structure.ranks[first : first + step])
        load = workload(question, batch)
        found = predict(model, system, rows.across(), load, basis.rates, arrival, strict=False)
        yield first, rows, batch, found


def workload(question: Question, batch: Any) -> Workload:
    """The question's load with so many sequences."""
    return Workload(
        batch=batch,
        input_tokens=question.input_tokens,
        output_tokens=question.output_tokens,
        beams=question.beams,
        cached_tokens=question.cached_tokens,
    )


def _columns(
    question: Question,
    structure: Structure,
    place: int,
    first: int,
    rows: Structure,
    batch: Array,
    found: Prediction,
) -> Columns:
    shape = (len(batch), len(rows.ranks))
    length = float(question.input_tokens + question.output_tokens)
    tok_s = found.total_tok_s * (question.output_tokens / length)
    devices = rows.column("tp") * structure.plan.pp

    def flat(value: Any) -> Any:
        numbers = np.nan if value is None else value
        return np.broadcast_to(numbers, shape).reshape(-1).astype(np.float64)

    def whole(value: Any) -> Any:
        return np.broadcast_to(value, shape).reshape(-1).astype(np.int64)

    return Columns(
        offer=whole(structure.offer),
        structure=whole(place),
        layout=whole(first + np.arange(len(rows.ranks))),
        batch=flat(batch),
        devices=flat(devices),
        ttft_s=flat(found.ttft_s),
        tpot_s=flat(found.tpot_s),
        e2e_s=flat(found.e2e_s),
        tok_s=flat(tok_s),
        requests_per_s=flat(tok_s / question.output_tokens),
        running=flat(found.running),
        memory_B=flat(found.memory.total_B),
        busy=flat(_busy(question, structure, found, tok_s / question.output_tokens)),
        J_per_token=flat(found.energy_J_per_token),
        usd_per_million=flat(found.usd_per_million_tokens),
        offloaded=whole(structure.plan.offload is not None).astype(np.bool_),
        prefill=whole(-1),
        prefill_workers=whole(0),
        decode_workers=whole(1),
    )


def _busy(question: Question, structure: Structure, found: Prediction, rate: Any) -> Any:
    """Device time of a prompt times prompts per second; pipelined stages work side by side."""
    if question.arrival == "static":
        return 0.0
    at_once = structure.plan.pp if structure.plan.micro_batches != 1 else 1
    return rate * (found.prefill.device_s + found.prefill.fetch_s) / at_once


def joined(parts: list[Columns]) -> Columns:
    """Rows of all parts, one after the other."""
    return Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))
