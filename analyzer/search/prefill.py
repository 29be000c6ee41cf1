"""Disaggregation: workers that only read prompts, workers that only write, in whole proportions.

A prefill worker takes prompts in batches and hands their cache over the network; a decoding worker
runs a full batch that no prompt interrupts. As many of each are taken as let their rates meet. What
requests wait in queues is not in these figures: simulate to see it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.plan import Plan
from analyzer.predict import Prediction
from analyzer.search.evaluate import Columns, joined, predicted
from analyzer.search.front import front
from analyzer.search.question import Question
from analyzer.search.structures import Structure, most_devices

Array = NDArray[np.float64]
Ints = NDArray[np.int64]

PROMPTS = (1, 2, 4, 8, 16, 32)
"""Prompts that a prefill worker takes at once."""
MOST_WORKERS = 8
"""Of either kind in one group."""


class PrefillTable(NamedTuple):
    """Prefill workers, one a row."""

    structure: Ints
    layout: Ints
    prompts: Array
    devices: Array
    ttft_s: Array
    """Prefill of the batch and the transfer of its cache."""
    requests_per_s: Array
    energy_J: Array
    """Of one request; NaN where it is not known."""

    def plan(self, structures: tuple[Structure, ...], row: int) -> Plan:
        """The plan of one worker."""
        structure = structures[int(self.structure[row])]
        ranks = structure.ranks[int(self.layout[row])]
        return msgspec.structs.replace(
            structure.plan, tp=ranks.tp, ep=ranks.ep, attention_dp=ranks.attention_dp
        )


def empty() -> PrefillTable:
    """No workers."""
    return PrefillTable(*(np.zeros(0, dtype=np.int64),) * 2, *(np.zeros(0),) * 5)


class _Decoders(NamedTuple):
    structure: Ints
    layout: Ints
    batch: Array
    devices: Array
    tpot_s: Array
    requests_per_s: Array
    energy_J: Array
    running: Array


def disaggregate(
    question: Question, structures: tuple[Structure, ...]
) -> tuple[PrefillTable, list[Columns]]:
    """Useful pairs of workers of the same system and formats."""
    tables: list[PrefillTable] = []
    parts: list[Columns] = []
    count = 0
    kinds = sorted({_kind(structure) for structure in structures})
    for kind in kinds:
        own = [n for n, structure in enumerate(structures) if _kind(structure) == kind]
        readers = _readers(question, structures, own)
        writers = _writers(question, structures, own)
        if not len(readers.devices) or not len(writers.devices):
            continue
        offer = structures[own[0]].offer
        parts.append(_pairs(question, offer, readers, writers, count))
        tables.append(readers)
        count += len(readers.devices)
    if not tables:
        return empty(), []
    return PrefillTable(*(np.concatenate(column) for column in zip(*tables, strict=True))), parts


def _kind(structure: Structure) -> tuple[int, str, str]:
    """What both workers must share: the system, and the formats of weights and cache."""
    return structure.offer, structure.plan.weights, structure.plan.kv


def _readers(question: Question, structures: tuple[Structure, ...], own: list[int]) -> PrefillTable:
    """Prefill workers that no other of as many devices beats in both latency and rate."""
    rows: list[PrefillTable] = []
    for place in own:
        structure = structures[place]
        if structure.plan.speculation is not None or structure.plan.offload is not None:
            continue
        for first, part, batch, found in predicted(question, structure, "static", PROMPTS):
            rows.append(_reader_rows(question, place, first, part, batch, found))
    table = PrefillTable(*(np.concatenate(column) for column in zip(*rows, strict=True)))
    chosen = _undominated(table.devices, -table.ttft_s, table.requests_per_s)
    return _taken(table, chosen)


def _reader_rows(
    question: Question,
    place: int,
    first: int,
    part: Structure,
    batch: Array,
    found: Prediction,
) -> PrefillTable:
    shape = (len(batch), len(part.ranks))
    system, basis = question.offers[part.offer]
    devices = np.broadcast_to(part.column("tp") * part.plan.pp, shape).astype(np.float64)
    link = system.inter_node or system.intra_node
    speed = np.inf if link is None else link.bandwidth_Bps * basis.rates.link_eff
    delay = 0.0 if link is None else link.latency_s
    held_B = np.broadcast_to(found.memory.kv_B + found.memory.state_B, shape)
    share = question.input_tokens / (question.input_tokens + question.output_tokens)
    moved_s = delay + held_B * share / speed
    whole = np.broadcast_to(found.running, shape) >= batch
    prefill_s = np.where(whole, np.broadcast_to(found.ttft_s, shape), np.nan)
    idle = system.device.tdp_W
    energy = np.nan if idle is None else idle * devices * prefill_s / batch

    def flat(values: Any) -> Array:
        return np.broadcast_to(values, shape).reshape(-1).astype(np.float64)

    return PrefillTable(
        structure=np.full(prefill_s.size, place),
        layout=flat(first + np.arange(len(part.ranks))).astype(np.int64),
        prompts=flat(batch),
        devices=flat(devices),
        ttft_s=flat(prefill_s + moved_s),
        requests_per_s=flat(batch / prefill_s),
        energy_J=flat(energy),
    )


def _taken(table: PrefillTable, chosen: Ints) -> PrefillTable:
    return PrefillTable(*(column[chosen] for column in table))  # type: ignore[arg-type]


def _writers(question: Question, structures: tuple[Structure, ...], own: list[int]) -> _Decoders:
    """Decoding workers that no other of as many devices beats in both pace and rate."""
    rows: list[_Decoders] = []
    steps = max(question.output_tokens - 1.0, 1.0)
    for place in own:
        if structures[place].plan.offload is not None:
            continue
        for first, part, batch, found in predicted(question, structures[place], "static"):
            shape = (len(batch), len(part.ranks))
            tpot_s = np.broadcast_to(found.tpot_s, shape)
            running = np.broadcast_to(found.running, shape)
            # A batch that does not fit at once is some other, smaller batch.
            tpot_s = np.where(running >= batch, tpot_s, np.nan).reshape(-1)
            devices = np.broadcast_to(part.column("tp") * part.plan.pp, shape).reshape(-1)
            many = np.broadcast_to(batch, shape).reshape(-1)
            power = question.offers[part.offer].system.device.tdp_W or np.nan
            rate = np.asarray(many / (tpot_s * steps), dtype=np.float64)
            layout = np.broadcast_to(first + np.arange(shape[1]), shape).reshape(-1)
            place_of = np.full(many.size, place)
            energy = np.asarray(power * devices / rate, dtype=np.float64)
            rows.append(
                _Decoders(
                    place_of, layout, many, devices.astype(np.float64), tpot_s, rate, energy, many
                )
            )
    table = _Decoders(*(np.concatenate(column) for column in zip(*rows, strict=True)))
    chosen = _undominated(table.devices, -table.tpot_s, table.requests_per_s)
    return _Decoders(*(np.asarray(column[chosen]) for column in table))  # type: ignore[arg-type]


def _undominated(devices: Array, first: Array, second: Array) -> Ints:
    chosen = [front(first, second, devices == count) for count in np.unique(devices)]
    return np.concatenate(chosen) if chosen else np.zeros(0, dtype=np.int64)


def _pairs(
    question: Question, offer: int, readers: PrefillTable, writers: _Decoders, before: int
) -> Columns:
    """Every pair in the whole proportion that gives most tokens per device."""
    most = most_devices(question, offer)
    workers = np.arange(1, MOST_WORKERS + 1, dtype=np.float64)
    many = (workers[:, None], workers[None, :])
    parts = []
    for row in range(len(readers.devices)):
        rate = np.minimum(
            readers.requests_per_s[row] * many[0], writers.requests_per_s[:, None, None] * many[1]
        )
        devices = readers.devices[row] * many[0] + writers.devices[:, None, None] * many[1]
        per_device = np.where(devices <= most, rate / devices, -1.0).reshape(len(rate), -1)
        chosen = np.argmax(per_device, axis=1)
        kept = np.flatnonzero(per_device[np.arange(len(rate)), chosen] > 0)
        if len(kept):
            parts.append(
                _pair_rows(question, offer, readers, writers, row, kept, chosen[kept], before)
            )
    return joined(parts) if parts else _none()


def _pair_rows(
    question: Question,
    offer: int,
    readers: PrefillTable,
    writers: _Decoders,
    row: int,
    kept: Ints,
    chosen: Ints,
    before: int,
) -> Columns:
    reading, writing = chosen // MOST_WORKERS + 1, chosen % MOST_WORKERS + 1
    rate = np.minimum(readers.requests_per_s[row] * reading, writers.requests_per_s[kept] * writing)
    devices = readers.devices[row] * reading + writers.devices[kept] * writing
    tokens = float(question.output_tokens)
    device = question.offers[offer].system.device
    power = np.nan if device.tdp_W is None else device.tdp_W * devices
    price = np.nan if device.price_usd_per_hour is None else device.price_usd_per_hour * devices
    steps = max(tokens - 1.0, 0.0)
    ttft_s = np.full(len(kept), readers.ttft_s[row])
    return Columns(
        offer=np.full(len(kept), offer),
        structure=writers.structure[kept],
        layout=writers.layout[kept].astype(np.int64),
        batch=writers.batch[kept] * writing,
        devices=devices,
        ttft_s=ttft_s,
        tpot_s=writers.tpot_s[kept],
        e2e_s=ttft_s + steps * writers.tpot_s[kept],
        tok_s=rate * tokens,
        requests_per_s=rate,
        running=writers.running[kept] * writing,
        memory_B=np.full(len(kept), np.nan),
        busy=np.zeros(len(kept)),
        J_per_token=power / (rate * tokens) * np.ones(len(kept)),
        usd_per_million=price / 3600.0 / (rate * tokens) * 1e6 * np.ones(len(kept)),
        offloaded=np.zeros(len(kept), dtype=np.bool_),
        prefill=np.full(len(kept), before + row),
        prefill_workers=reading,
        decode_workers=writing,
    )


def _none() -> Columns:
    whole = np.zeros(0, dtype=np.int64)
    return Columns(*(whole,) * 3, *(np.zeros(0),) * 12, whole.astype(np.bool_), *(whole,) * 3)
