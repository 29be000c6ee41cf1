"""Bytes and FLOPs of an offloaded generation, counted from the plan alone.

Streams are (stage, link) pairs. The engine adds up what it moved under the same names, and the
two must agree to the byte.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from analyzer.offload_policy import (
    OffloadPolicy,
    act_splits,
    kv_splits,
    micro_batches,
    place_weights,
    streamed,
)
from analyzer.offload_schedule import Event
from analyzer.offload_shapes import OffloadDims, TensorShape, kv_token_B, tensor_B, tensors, units

Streams = Counter[tuple[str, str]]
TOKEN_B = 8


@dataclass(frozen=True)
class BlockPlan:
    """One block of `rows` sequences under a policy: every count follows from it."""

    dims: OffloadDims
    policy: OffloadPolicy
    itemsize: int
    rows: int
    prompt_len: int

    @cached_property
    def batches(self) -> list[int]:
        """Rows of each micro-batch."""
        return micro_batches(self.rows, self.policy)

    @cached_property
    def homes(self) -> dict[tuple[str, int, int], int]:
        """Tier index of every weight tensor."""
        return place_weights(self.dims, self.itemsize, self.policy)

    @cached_property
    def streamed(self) -> list[list[TensorShape]]:
        """Per unit, the tensors brought to the GPU each time."""
        return streamed(self.dims, self.homes)

    @cached_property
    def kv(self) -> list[list[tuple[int, int, int]]]:
        """[layer][micro-batch] → rows whose KV is on GPU, CPU, disk."""
        return kv_splits(self.dims, self.batches, self.policy)

    @cached_property
    def act(self) -> list[tuple[int, int, int]]:
        """[micro-batch] → rows whose activations rest on GPU, CPU, disk."""
        return act_splits(self.batches, self.policy)

    @property
    def unit_count(self) -> int:
        """Schedule units per token step."""
        return self.dims.layers + 1

    def stored_B(self, tensor: TensorShape) -> int:
        """Bytes of a weight tensor as stored under the policy."""
        return tensor_B(tensor, self.itemsize, self.policy.weight_bits)

    def weight_B(self) -> tuple[int, int, int]:
        """Realised weight bytes per tier."""
        total = [0, 0, 0]
        for tensor in tensors(self.dims):
            total[self.homes[tensor.key]] += self.stored_B(tensor)
        return (total[0], total[1], total[2])

    def kv_B(self, steps: int) -> tuple[int, int, int]:
        """KV bytes per tier at full length, for `steps` generated tokens."""
        each = kv_token_B(self.dims, self.itemsize, self.policy.kv_bits)
        each *= self.prompt_len + steps - 1
        flat = [split for layer in self.kv for split in layer]
        return tuple(each * sum(split[tier] for split in flat) for tier in range(3))  # type: ignore[return-value]

    def fresh(self, i: int) -> int:
        """Token positions that step i brings."""
        return self.prompt_len if i == 0 else 1

    def kept(self, i: int, j: int) -> int:
        """Positions of the hidden state that leave unit j (only the last one feeds the head)."""
        return 1 if j == self.dims.layers - 1 else self.fresh(i)

    def gpu_attended(self, i: int, j: int, k: int) -> int:
        """Rows of a micro-batch that attend on the GPU."""
        if i == 0 or not self.policy.cpu_attention:
            return self.batches[k]
        return self.kv[j][k][0]


def overlap(first: tuple[int, int], second: tuple[int, int]) -> int:
    """Length of what two half-open ranges share."""
    return max(0, min(first[1], second[1]) - max(first[0], second[0]))


def stream_bytes(plan: BlockPlan, events: Iterable[Event]) -> Streams:
    """Total bytes per stream of the given events."""
    total: Streams = Counter()
    for event in events:
        for stream, count in event_bytes(plan, event).items():
            total[stream] += count
    return +total


def event_bytes(plan: BlockPlan, event: Event) -> Streams:
    """Bytes per stream of one event; a unit's weights are counted with micro-batch 0."""
    counter = _COUNTERS.get(event.stage)
    return counter(plan, event) if counter else Counter()


def _load_weight(plan: BlockPlan, event: Event) -> Streams:
    if event.k:
        return Counter()
    moved: Streams = Counter()
    for tensor in plan.streamed[event.j]:
        moved["load_weight", "h2d"] += plan.stored_B(tensor)
        if plan.homes[tensor.key] == 2:
            moved["load_weight", "disk_read"] += plan.stored_B(tensor)
    return moved


def _load_cache(plan: BlockPlan, event: Event) -> Streams:
    _, cpu, disk = plan.kv[event.j][event.k]
    prefix = plan.prompt_len + event.i - 1
    each = prefix * kv_token_B(plan.dims, plan.itemsize, plan.policy.kv_bits)
    moved: Streams = Counter({("load_cache", "disk_read"): disk * each})
    if not plan.policy.cpu_attention:
        moved["load_cache", "h2d"] = (cpu + disk) * each
    return moved


def _store_cache(plan: BlockPlan, event: Event) -> Streams:
    _, cpu, disk = plan.kv[event.j][event.k]
    each = plan.fresh(event.i) * kv_token_B(plan.dims, plan.itemsize, plan.policy.kv_bits)
    moved: Streams = Counter(
        {
            ("store_cache", "d2h"): (cpu + disk) * each,
            ("store_cache", "disk_write"): disk * each,
        }
    )
    away = plan.batches[event.k] - plan.gpu_attended(*event[1:])
    query = away * plan.dims.q_width * plan.itemsize
    moved["send_query", "d2h"] = query
    moved["return_attention", "h2d"] = query
    return moved


def hidden_B(plan: BlockPlan, i: int, j: int, k: int) -> tuple[int, int]:
    """Bytes of the state between unit j and j+1 that rest on (CPU, disk): residual and attended."""
    gpu, cpu, disk = plan.act[k]
    attended = (0, plan.gpu_attended(i, j, k))
    on_cpu, on_disk = (gpu, gpu + cpu), (gpu + cpu, gpu + cpu + disk)
    each = plan.kept(i, j) * plan.itemsize
    hidden, width = plan.dims.hidden, plan.dims.q_width
    return (
        each * (cpu * hidden + overlap(on_cpu, attended) * width),
        each * (disk * hidden + overlap(on_disk, attended) * width),
    )


def _store_hidden(plan: BlockPlan, event: Event) -> Streams:
    cpu, disk = hidden_B(plan, *event[1:])
    return Counter({("store_hidden", "d2h"): cpu + disk, ("store_hidden", "disk_write"): disk})


def _load_hidden(plan: BlockPlan, event: Event) -> Streams:
    if event.j == 0:
        return _gather(plan, event)
    cpu, disk = hidden_B(plan, event.i, event.j - 1, event.k)
    return Counter({("load_hidden", "h2d"): cpu + disk, ("load_hidden", "disk_read"): disk})


def _gather(plan: BlockPlan, event: Event) -> Streams:
    tokens = plan.batches[event.k] * plan.fresh(event.i)
    moved: Streams = Counter()
    for table in (t for t in units(plan.dims)[0] if t.kind == "table"):
        home = plan.homes[table.key]
        looked_up = tokens * plan.dims.hidden * plan.itemsize
        moved["gather", "h2d"] += looked_up if home else 0
        moved["gather", "disk_read"] += looked_up if home == 2 else 0
        if home == 0 and table.role == "embed":
            moved["tokens", "h2d"] += tokens * TOKEN_B
    return moved


def _compute(plan: BlockPlan, event: Event) -> Streams:
    if event.j < plan.dims.layers:
        return Counter()
    return Counter({("tokens", "d2h"): plan.batches[event.k] * TOKEN_B})


_COUNTERS = {
    "load_weight": _load_weight,
    "load_cache": _load_cache,
    "store_cache": _store_cache,
    "store_hidden": _store_hidden,
    "load_hidden": _load_hidden,
    "compute": _compute,
}


def unit_flops(dims: OffloadDims, j: int, tokens: float, logits: float) -> float:
    """FLOPs of the matrix products of unit j over `tokens` positions (`logits` of them scored)."""
    hidden, matrices = dims.hidden, 0.0
    if j < dims.layers:
        matrices += hidden * (dims.q_width + 2 * dims.kv_width)
    if j > 0:
        mlp = (3 if dims.gated else 2) * hidden * dims.ffn * (dims.experts_per_token or 1)
        matrices += dims.q_width * hidden + mlp + dims.experts * hidden
    return 2 * tokens * matrices + (2 * logits * hidden * dims.vocab if j == dims.layers else 0)


def attention_flops(dims: OffloadDims, rows: float, queries: float, keys: float) -> float:
    """FLOPs of scores and values for `queries` positions that each see `keys` positions."""
    return 4 * rows * queries * keys * dims.q_width


def attended_keys(positions: Sequence[int]) -> float:
    """Mean keys seen by causal queries at the given first and last position (one-based)."""
    return (positions[0] + positions[-1]) / 2


def compute_flops(plan: BlockPlan, event: Event) -> float:
    """FLOPs of the matrix products of a compute event."""
    rows = plan.batches[event.k]
    last = event.j == plan.dims.layers
    tokens = rows * (1 if last else plan.fresh(event.i))
    return unit_flops(plan.dims, event.j, tokens, rows)


def gpu_attention_flops(plan: BlockPlan, event: Event) -> float:
    """FLOPs of the attention that an attend event does on the GPU."""
    rows = plan.gpu_attended(*event[1:])
    queries = plan.kept(event.i, event.j)
    last = plan.prompt_len + event.i
    keys = attended_keys((last - queries + 1, last))
    return attention_flops(plan.dims, rows, queries, keys)


def cpu_attention_B(plan: BlockPlan, event: Event) -> int:
    """KV bytes that an attend event reads on the CPU."""
    away = plan.batches[event.k] - plan.gpu_attended(*event[1:])
    keys = plan.prompt_len + event.i
    return away * keys * kv_token_B(plan.dims, plan.itemsize, plan.policy.kv_bits)
