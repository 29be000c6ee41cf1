"""FlexGen's own schedule, to compare with what it published.

It differs from ours in ways that cost time: attention and MLP are units of their own; all of the
next unit's weights load behind the first micro-batch; the device is synchronised after every
micro-batch; attention on the CPU runs in the launching thread; and reads from disk, of weights and
of cache alike, share one small pool of threads which copies on to the GPU in turn. So a unit lasts

    max(C, weights + L) + (batches - 1) * max(C, L, S)

with C, L, S a micro-batch's compute, cache load and cache store. Its published 30B and 175B decode
figures were projected from the first decoded token, and so is what is returned here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.offload_machine import OffloadMachine
from analyzer.offload_shapes import OffloadDims

HALF_B = 2


@dataclass(frozen=True, kw_only=True)
class FlexGenQuirks:
    """Rates of FlexGen's slow paths: unpinned KV in both directions, activations going home."""

    cache_store_Bps: float
    cache_h2d_Bps: float
    hidden_d2h_Bps: float
    small_batch_loss: float = 0.0  # of the CPU attention rate, per halving of the batch below 64


@dataclass(frozen=True, kw_only=True)
class FlexGenRun:
    """One published run. Shares are (GPU, CPU, disk) as realised, not as asked."""

    prompt_len: int
    gen_len: int
    gpu_batch: int
    num_gpu_batches: int
    weights: Sequence[float]
    kv: Sequence[float]
    act_gpu: float
    cpu_attention: bool


@dataclass(frozen=True)
class FlexGenForecast:
    """Seconds of prefill and of one decoding step, and generated tokens per second overall."""

    prefill_s: float
    step_s: float
    tok_s: float


def realised_by_midpoints(sizes_B: Sequence[int], percents: Sequence[float]) -> list[int]:
    """FlexGen's placement of one layer: a tensor goes where the middle of its bytes falls.

    `percents` and the returned tier numbers are in its order: GPU, CPU, disk; it deals from disk.
    """
    edges = [percents[2], percents[2] + percents[1]]
    total, seen, homes = sum(sizes_B), 0, []
    for size in sizes_B:
        middle = (seen + size / 2) / total * 100
        seen += size
        homes.append(2 if middle < edges[0] else 1 if middle < edges[1] else 0)
    return homes


def forecast_flexgen(
    dims: OffloadDims, run: FlexGenRun, machine: OffloadMachine, quirks: FlexGenQuirks
) -> FlexGenForecast:
    """Forecast FlexGen on fp16 weights and cache."""
    attention_B = HALF_B * (2 * dims.hidden * dims.q_width + 2 * dims.hidden * dims.kv_width)
    mlp_B = HALF_B * (3 if dims.gated else 2) * dims.hidden * dims.ffn
    step = _decode(dims, run, machine, quirks, attention_B, mlp_B)
    prefill = _prefill(dims, run, machine, quirks, attention_B, mlp_B)
    made = run.gpu_batch * run.num_gpu_batches * run.gen_len
    return FlexGenForecast(prefill, step, made / (prefill + (run.gen_len - 1) * step))


def _unit(
    run: FlexGenRun,
    machine: OffloadMachine,
    next_B: float,
    compute: float,
    load: float,
    store: float,
) -> float:
    _, cpu, disk = run.weights
    weights = next_B * ((cpu + disk) / machine.h2d_Bps + disk / machine.disk_read_Bps)
    first = max(compute, weights + load)
    return first + (run.num_gpu_batches - 1) * max(compute, load, store)


def _skinny(machine: OffloadMachine, rows: int, size_B: float) -> float:
    """A product of few rows: bound by reading its weights, or by arithmetic."""
    return (
        max(rows * size_B / machine.gpu_flops, size_B / machine.hbm_Bps) + machine.unit_overhead_s
    )


def _hidden(
    run: FlexGenRun, machine: OffloadMachine, quirks: FlexGenQuirks, size_B: float
) -> float:
    """Activations come and go on the computing stream, so they add to compute."""
    return size_B * (1 - run.act_gpu) * (1 / machine.h2d_Bps + 1 / quirks.hidden_d2h_Bps)


def _decode(
    dims: OffloadDims,
    run: FlexGenRun,
    machine: OffloadMachine,
    quirks: FlexGenQuirks,
    attention_B: float,
    mlp_B: float,
) -> float:
    batch = run.gpu_batch
    token_B = HALF_B * 2 * dims.kv_width
    cache_B = batch * (run.prompt_len + 1) * token_B
    gpu, cpu, disk = run.kv
    away = cpu + disk
    hidden = _hidden(run, machine, quirks, batch * dims.hidden * HALF_B)
    loss = quirks.small_batch_loss * max(0.0, math.log2(64 / batch))
    attend = cache_B * gpu / machine.hbm_Bps
    load = cache_B * disk / machine.disk_read_Bps
    if run.cpu_attention:
        attend += cache_B * away / (machine.cpu_attention_Bps * (1 - loss))
    else:
        attend += cache_B * away / machine.hbm_Bps
        load += cache_B * away / quirks.cache_h2d_Bps
    store = batch * token_B * disk / machine.disk_write_Bps
    first = _skinny(machine, batch, attention_B) + attend + hidden
    second = _skinny(machine, batch, mlp_B) + hidden
    layer = _unit(run, machine, mlp_B, first, load, store)
    layer += _unit(run, machine, attention_B, second, 0.0, 0.0)
    head = _skinny(machine, batch, HALF_B * dims.hidden * dims.vocab)
    return dims.layers * layer + run.num_gpu_batches * head


def _prefill(
    dims: OffloadDims,
    run: FlexGenRun,
    machine: OffloadMachine,
    quirks: FlexGenQuirks,
    attention_B: float,
    mlp_B: float,
) -> float:
    tokens = run.gpu_batch * run.prompt_len
    _, cpu, disk = run.kv
    hidden = _hidden(run, machine, quirks, tokens * dims.hidden * HALF_B)
    scores = 4 * tokens * run.prompt_len * dims.q_width / machine.attention_flops
    kept_B = run.gpu_batch * (run.prompt_len + 1) * HALF_B * 2 * dims.kv_width
    store = max(
        kept_B * (cpu + disk) / quirks.cache_store_Bps, kept_B * disk / machine.disk_write_Bps
    )
    both = machine.unit_overhead_s + hidden
    first = tokens * attention_B / machine.gpu_flops + scores + both
    second = tokens * mlp_B / machine.gpu_flops + both
    layer = _unit(run, machine, mlp_B, first, 0.0, store)
    layer += _unit(run, machine, attention_B, second, 0.0, 0.0)
    # It makes the logits of every position, not of the last alone.
    logits = tokens * 2 * dims.hidden * dims.vocab / machine.gpu_flops
    return dims.layers * layer + run.num_gpu_batches * logits
