"""Counted work to seconds: a roofline with fitted rates, operator by operator.

Each operator takes the longer of its arithmetic and its memory traffic (how sharply is a rate),
plus what launching it costs. Linear layers reach their rate only with enough rows, attention only
with enough keys and enough independent heads to fill the machine; the forms are those that held up
on measured kernels, and `Rates.ideal()` turns all of them into the plain speed of light.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from analyzer.optable import COLLECTIVES, COMPUTE, KIND_INDEX, KINDS
from analyzer.timing.machine import Machine
from analyzer.timing.processor import capped, streamed_by_processor
from analyzer.timing.rates import Rates

Array = NDArray[np.float64]

_SHARP = 32.0
TILES = ((1 / 2, 1.08), (1 / 4, 1.25), (1 / 8, 1.5))
"""Smaller tiles, as shares of the largest, and what a computed row costs in them."""
SMALLEST_TILE = 16.0
"""Rows of the smallest tile: kernels shrink theirs where there are few rows."""
_GEMM, _GROUPED = KIND_INDEX["gemm"], KIND_INDEX["grouped_gemm"]
_ATTENTION, _SCAN = KIND_INDEX["attention"], KIND_INDEX["scan"]
_ELEMENTWISE = KIND_INDEX["elementwise"]
_WIDE = np.array([name in ("fp32", "tf32") for name in COMPUTE])
BOUNDS = ("compute", "memory", "network", "overhead")


class Table(Protocol):
    """What timing reads of counted work; an OpTable, or many of them laid end to end."""

    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def collectives(self) -> tuple[str, ...]: ...
    @property
    def columns(self) -> dict[str, Array]: ...
    def reduce(self, values: Array) -> Array:
        """Sum over the operators of each step."""


class OpTimes(NamedTuple):
    """Seconds per operator with its repeats, shape (operators, *scenarios), axes of 1 kept."""

    compute_s: Array
    memory_s: Array
    network_s: Array
    overhead_s: Array
    total_s: Array
    asked: Any = None
    """What other sources than the roofline said (`sources.Sourced`), where they were asked."""

    @property
    def bound(self) -> NDArray[np.intp]:
        """Which of BOUNDS takes longest, per operator."""
        bound: NDArray[np.intp] = np.argmax(np.stack(np.broadcast_arrays(*self[:4])), axis=0)
        return bound


class StepTime(NamedTuple):
    """Seconds of one step and where they went, shape (*scenarios)."""

    total_s: Array
    device_s: Array
    network_s: Array
    host_s: Array
    ops: tuple[OpTimes, ...]
    """Of each block of the table."""


def time_step(
    table: Table,
    machine: Machine,
    rates: Rates,
    sequences: Any = 1.0,
    with_host: bool = True,
    overlap: Any = 1.0,
    hidden: Any = 0.0,
) -> StepTime:
    """Time one step: the device's operators, or the host that issues them if that is slower.

    `with_host` adds what the host does once a step (scheduling, sampling); a pipeline's stages
    share one host, so only its last stage pays. `overlap` micro-batches like the table run one
    beside the other: while one communicates, the others compute. Where `hidden` is 1, the host
    works on the next step while the device runs this one, and the longer of the two is the step.
    """
    parts: tuple[Table, ...] = getattr(table, "blocks", ()) or (table,)
    ops = tuple(time_ops(part, machine, rates) for part in parts)
    device_s = _sum(part.reduce(timed.total_s) for part, timed in zip(parts, ops, strict=True))
    network_s = _sum(part.reduce(timed.network_s) for part, timed in zip(parts, ops, strict=True))
    issue_s = rates.host_launch_s * _sum(
        part.reduce(part.columns["launches"] * part.columns["repeat"]) for part in parts
    )
    if np.any(np.asarray(overlap) != 1.0):
        turns = _sum(part.reduce(_turns(part)) for part in parts)
        device_s, network_s = overlapped(device_s, network_s, overlap, turns)
        issue_s = issue_s * overlap
    waited_s = np.maximum(issue_s - device_s, 0.0)
    if with_host:
        host_s = rates.step_s + rates.sequence_s * np.asarray(sequences)
        idle_s = np.maximum(device_s - issue_s, 0.0)
        waited_s = waited_s + np.maximum(host_s - hidden * idle_s, 0.0)
    return StepTime(device_s + waited_s, device_s, network_s, waited_s, ops)


def overlapped(device_s: Array, network_s: Array, pieces: Any, turns: Array) -> tuple[Any, Any]:
    """Device time of `pieces` micro-batches that hide each other's communication, and what of the
    communication still shows.

    The longer of compute and communication is never idle; of the shorter, one piece's share of one
    turn (a layer's compute and the collective behind it) sticks out before the others can hide it.
    That is what a schedule can do at best: micro-batches whose turns are all alike.
    """
    compute_s, sent_s = pieces * (device_s - network_s), pieces * network_s
    longer, shorter = np.maximum(compute_s, sent_s), np.minimum(compute_s, sent_s)
    whole_s = longer + shorter / np.maximum(pieces * turns, 1.0)
    whole_s = np.where(np.asarray(pieces) > 1.0, np.minimum(whole_s, device_s * pieces), device_s)
    return whole_s, whole_s - compute_s


def _turns(table: Table) -> Array:
    """Collectives per step, per operator."""
    codes = _codes(table.collectives, COLLECTIVES)
    talks = (codes > 0).reshape(-1, *(1,) * (table.columns["flops"].ndim - 1))
    turns: Array = table.columns["repeat"] * (talks & (table.columns["ranks"] > 1.0))
    return turns


def _sum(values: Iterable[Array]) -> Array:
    total: Array = reduce(np.add, values)
    return total


def time_ops(table: Table, machine: Machine, rates: Rates) -> OpTimes:
    """Time every operator of a step."""
    columns = table.columns
    axes = columns["flops"].ndim - 1
    kinds = _codes(table.kinds, KINDS).reshape(-1, *(1,) * axes)
    repeat = columns["repeat"]
    compute_s = _compute_s(columns, kinds, machine, rates) * repeat
    memory_s = _memory_s(columns, kinds, machine, rates) * repeat
    network_s = _network_s(table, machine, rates) * repeat
    overhead_s = rates.launch_s * columns["launches"] * repeat
    if machine.matrix_vector and rates.linear_s:
        linear = (kinds == _GEMM) | (kinds == _GROUPED)
        overhead_s = (
            overhead_s + np.where(linear, rates.linear_s * columns["launches"], 0.0) * repeat
        )
    busy_s = smooth_max(compute_s, memory_s, rates.sharpness)
    if rates.sharpness_wide != 1.0:
        sharpness = max(1.0, rates.sharpness * rates.sharpness_wide)
        wide = _WIDE[columns["compute"].astype(np.intp)]
        busy_s = np.where(wide, smooth_max(compute_s, memory_s, sharpness), busy_s)
    total_s = busy_s + network_s + overhead_s
    timed = OpTimes(compute_s, memory_s, network_s, overhead_s, total_s)
    return timed if machine.ladder is None else machine.ladder.retime(table, timed)


def smooth_max(a: Array, b: Array, sharpness: Any) -> Array:
    """(a^p + b^p)^(1/p): the sum at p=1, the maximum as p grows."""
    larger = np.maximum(a, b)
    if sharpness >= _SHARP:
        return larger
    if sharpness == 1.0:
        return a + b
    share = np.minimum(a, b) / np.where(larger > 0, larger, 1.0)
    result: Array = larger * (1.0 + share**sharpness) ** (1.0 / sharpness)
    return result


def padded(rows: Array, largest: Any) -> Array:
    """Rows that are computed where the device works in tiles: the cheapest tile's whole ones.

    Smaller tiles waste fewer rows and reuse what they load less.
    """
    if np.all(np.asarray(largest) <= 1.0):
        return rows
    best: Array = np.ceil(rows / largest) * largest
    for share, price in TILES:
        tile = largest * share
        best = np.minimum(best, np.ceil(rows / tile) * tile * price)
    return best


def _last_wave(waves: Array, loss: Any) -> Any:
    """Slowdown by the units that idle while the last tiles are worked on."""
    if not loss:
        return 1.0
    return 1.0 + loss * np.where(waves > 1.0, np.ceil(waves) / waves - 1.0, 0.0)


def fill(parallel: Array, units: Any) -> Array:
    """Share of the machine that `parallel` independent pieces of work keep busy, smoothly."""
    ratio = units / parallel
    squared = ratio * ratio
    share: Array = 1.0 / np.sqrt(np.sqrt(1.0 + squared * squared))
    return share


@lru_cache(maxsize=4096)
def _code_tuple(names: tuple[str, ...], known: tuple[str, ...]) -> NDArray[np.intp]:
    index = {name: position for position, name in enumerate(known)}
    return np.array([index[name] for name in names], dtype=np.intp)


def _codes(names: tuple[str, ...] | NDArray[np.intp], known: tuple[str, ...]) -> NDArray[np.intp]:
    return names if isinstance(names, np.ndarray) else _code_tuple(names, known)


def _compute_s(
    columns: dict[str, Array], kinds: NDArray[np.intp], machine: Machine, rates: Rates
) -> Array:
    code = columns["compute"].astype(np.intp)
    peak = machine.peak_vector[code]
    gemm_eff = np.asarray([getattr(rates, name) for name in machine.gemm_rates])[code]
    share = np.full(len(KINDS), rates.attention_eff)
    share[_GEMM], share[_GROUPED] = 1.0, rates.expert_gemm_eff
    linear = (kinds == _GEMM) | (kinds == _GROUPED)
    efficiency = share[kinds] * np.where(kinds == _GEMM, gemm_eff, 1.0)
    half_rows = np.where(kinds == _GROUPED, min(rates.gemm_half, SMALLEST_TILE), rates.gemm_half)
    rows = columns["m"]
    wide = _WIDE[code]
    half_rows = np.where(wide, half_rows * rates.half_wide, half_rows)
    if machine.matrix_vector:
        half_rows = np.where(rows > 1.0, half_rows, 0.0)
    if not machine.matrices:
        half_rows = np.zeros_like(half_rows)
    in_attention = wide & (kinds == _ATTENTION)
    efficiency = capped(efficiency, rates.attention_wide, in_attention)
    tile = np.minimum(rates.gemm_tile, machine.tile_rows)
    whole = padded(rows, tile)
    waves = _last_wave(whole * columns["n"] / (tile * tile * machine.units), rates.wave_loss)
    slowdown = np.where(
        linear,
        (whole + half_rows) * waves / rows,
        np.where(kinds == _ATTENTION, 1.0 + rates.attention_half / columns["n"], 1.0),
    )
    matrix_s = columns["flops"] * slowdown / (peak * efficiency)
    if rates.query_cost:
        matrix_s = matrix_s + columns["lone_flops"] * (rates.query_cost / machine.vector_flops)
    if rates.unsplit_cost:
        matrix_s = matrix_s + columns["unsplit_flops"] * (rates.unsplit_cost / machine.vector_flops)
    tensor = linear | (kinds == _ATTENTION) | (kinds == _SCAN)
    vector = columns["vector_flops"] + np.where(tensor, 0.0, columns["flops"])
    vector_s = vector / (machine.vector_flops * rates.vector_eff)
    seconds: Array = np.maximum(np.where(tensor, matrix_s, 0.0), vector_s)
    return seconds


def _memory_s(
    columns: dict[str, Array], kinds: NDArray[np.intp], machine: Machine, rates: Rates
) -> Array:
    bits = columns["weight_bits"]
    by_width = np.where(bits >= 7.0, rates.mem_eff_8, rates.mem_eff_4)
    weight_eff = np.where(bits >= 15.0, rates.mem_eff, by_width)
    weight_eff = capped(weight_eff, rates.mem_wide, bits >= 24.0)
    weight_eff = weight_eff * np.where(kinds == _GROUPED, rates.expert_eff, 1.0)
    if rates.expert_eff_8 != 1.0:
        in_8 = (kinds == _GROUPED) & (bits >= 7.0) & (bits < 15.0)
        weight_eff = weight_eff * np.where(in_8, rates.expert_eff_8, 1.0)
    if machine.matrix_vector:
        weight_eff = streamed_by_processor(weight_eff, columns, rates)
    kv_eff = np.where(bits < 15.0, rates.kv_eff * rates.kv_narrow_eff, rates.kv_eff)
    kv_eff = capped(kv_eff, rates.kv_wide, bits >= 24.0)
    busy = fill(columns["groups"] * rates.kv_splits, machine.units)
    kv_eff = kv_eff * np.where(kinds == _ATTENTION, busy, 1.0)
    kv_eff = np.where(kinds == _ELEMENTWISE, rates.vector_eff, kv_eff)  # writes and copies
    kv_B = columns["kv_B"]
    if rates.gqa_exponent:
        kv_B = kv_B * columns["heads_per_group"] ** rates.gqa_exponent
    traffic = columns["weight_B"] / weight_eff + columns["act_B"] / rates.vector_eff + kv_B / kv_eff
    seconds: Array = traffic / machine.memory_Bps
    return seconds


def _network_s(table: Table, machine: Machine, rates: Rates) -> Array:
    columns = table.columns
    codes = _codes(table.collectives, COLLECTIVES)
    ranks = columns["ranks"]
    several = (ranks > 1.0).reshape(len(ranks), -1).any(axis=1)
    used = np.flatnonzero((codes > 0) & several)
    if not len(used):
        return np.zeros((1,) * ranks.ndim)
    shape = np.broadcast_shapes(*(columns[name].shape for name in ("comm_B", "ranks", "stride")))
    seconds = np.zeros((len(codes), *shape[1:]))
    for code in np.unique(codes[used]):
        rows = used[codes[used] == code]
        payload_B, members, stride = (
            _take(columns[name], rows) for name in ("comm_B", "ranks", "stride")
        )
        seconds[rows] = machine.collective_s(
            COLLECTIVES[code], payload_B, members, stride, rates.collective_s, rates.link_eff
        )
    return seconds


def _take(column: Array, rows: NDArray[np.intp]) -> Array:
    return column[rows] if len(column) > 1 else column
