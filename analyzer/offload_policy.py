"""The offload policy, and where it puts things: to within one tensor of the share asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from analyzer.errors import ConfigError
from analyzer.offload_shapes import OffloadDims, TensorShape, tensor_B, tensors, units

TIERS = ("gpu", "cpu", "disk")
BITS = (4, 8, 16)


@dataclass(frozen=True, kw_only=True)
class OffloadPolicy:
    """Where weights, KV cache and activations live, and how a block is cut.

    The six percents are weights, KV and activations on GPU and on CPU; the rest is on disk.
    `weight_bits` and `kv_bits` are 16 (as the model is), 8 or 4 (group-wise).
    """

    weights_gpu_pct: float = 100.0
    weights_cpu_pct: float = 0.0
    kv_gpu_pct: float = 100.0
    kv_cpu_pct: float = 0.0
    act_gpu_pct: float = 100.0
    act_cpu_pct: float = 0.0
    gpu_batch: int = 1
    num_gpu_batches: int = 1
    overlap: bool = True
    cpu_attention: bool = False
    weight_bits: int = 16
    kv_bits: int = 16

    def __post_init__(self) -> None:
        for what in ("weights", "kv", "act"):
            _check_percents(what, *(getattr(self, f"{what}_{tier}_pct") for tier in TIERS[:2]))
        for name in ("gpu_batch", "num_gpu_batches"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("weight_bits", "kv_bits"):
            if getattr(self, name) not in BITS:
                raise ConfigError(f"{name} must be 4, 8 or 16, not {getattr(self, name)}")

    @classmethod
    def from_percent(cls, percent: Sequence[float], **options: object) -> OffloadPolicy:
        """Read FlexGen's six percents: weights, KV, activations, each on GPU then CPU."""
        if len(percent) != 6:
            raise ConfigError(
                f"--percent takes six numbers (weights, KV and activations on GPU and CPU), "
                f"not {len(percent)}"
            )
        names = [f"{what}_{tier}_pct" for what in ("weights", "kv", "act") for tier in TIERS[:2]]
        return cls(**dict(zip(names, percent, strict=True)), **options)  # type: ignore[arg-type]

    @property
    def block(self) -> int:
        """Sequences in a block."""
        return self.gpu_batch * self.num_gpu_batches

    def shares(self, what: str) -> tuple[float, float, float]:
        """Fractions on GPU, CPU and disk of 'weights', 'kv' or 'act'."""
        gpu, cpu = (float(getattr(self, f"{what}_{tier}_pct")) for tier in TIERS[:2])
        return (gpu / 100, cpu / 100, max(0.0, 100 - gpu - cpu) / 100)


def _check_percents(what: str, gpu: float, cpu: float) -> None:
    for tier, percent in (("gpu", gpu), ("cpu", cpu)):
        if not 0 <= percent <= 100:
            raise ConfigError(f"{what} percent on {tier} must lie in 0..100, not {percent:g}")
    if gpu + cpu > 100:
        raise ConfigError(
            f"{what} percents on gpu and cpu add up to {gpu + cpu:g}, over 100 "
            "(disk takes what they leave)"
        )


def place(sizes_B: Sequence[int], shares: Sequence[float]) -> list[int]:
    """Give each size to the tier that lags furthest behind its share of the bytes seen so far.

    A tier with share 0 gets nothing. Error diffusion over the whole model keeps every part of
    it near the asked mix, so that every unit streams about the same bytes.
    """
    allowed = [tier for tier, share in enumerate(shares) if share > 0]
    assigned = [0] * len(shares)
    homes = []
    seen = 0
    for size in sizes_B:
        seen += size
        home = max(allowed, key=lambda tier: shares[tier] * seen - assigned[tier])
        assigned[home] += size
        homes.append(home)
    return _settle(list(sizes_B), homes, shares, allowed)


def _settle(
    sizes: list[int], homes: list[int], shares: Sequence[float], allowed: list[int]
) -> list[int]:
    """Move tensors while that shrinks the largest miss, until it is below one tensor."""
    total = sum(sizes)
    limit = max(sizes, default=0)
    miss = [
        sum(s for s, h in zip(sizes, homes, strict=True) if h == tier) - shares[tier] * total
        for tier in range(len(shares))
    ]
    while max((abs(value) for value in miss), default=0) > limit:
        rich = max(allowed, key=lambda tier: miss[tier])
        poor = min(allowed, key=lambda tier: miss[tier])
        gap = miss[rich] - miss[poor]
        movable = [n for n, home in enumerate(homes) if home == rich and 0 < sizes[n] < gap]
        if not movable:
            break
        pick = max(movable, key=lambda n: min(sizes[n], gap - sizes[n]))
        homes[pick] = poor
        miss[rich] -= sizes[pick]
        miss[poor] += sizes[pick]
    return homes


def place_weights(
    dims: OffloadDims, itemsize: int, policy: OffloadPolicy
) -> dict[tuple[str, int, int], int]:
    """The tier index (0 GPU, 1 CPU, 2 disk) of every weight tensor."""
    every = tensors(dims)
    sizes = [tensor_B(tensor, itemsize, policy.weight_bits) for tensor in every]
    homes = place(sizes, policy.shares("weights"))
    return {tensor.key: home for tensor, home in zip(every, homes, strict=True)}


def streamed(dims: OffloadDims, homes: dict[tuple[str, int, int], int]) -> list[list[TensorShape]]:
    """Per unit, the tensors that must come to the GPU each time (tables are looked up instead)."""
    per_unit = units(dims)
    first = tuple(t for t in per_unit[0] if t.kind != "table")
    return [
        [tensor for tensor in unit if homes[tensor.key] != 0] for unit in (first, *per_unit[1:])
    ]


def split_rows(counts: Sequence[int], shares: Sequence[float]) -> list[tuple[int, int, int]]:
    """Split each count of rows over the tiers so that the running totals follow the shares."""
    given = [0.0, 0.0, 0.0]
    seen = 0
    splits = []
    for count in counts:
        seen += count
        wanted = [shares[tier] * seen - given[tier] for tier in range(3)]
        split = [max(0, int(want + 1e-9)) for want in wanted]
        while sum(split) > count:
            split[max(range(3), key=lambda tier: split[tier] - wanted[tier])] -= 1
        while sum(split) < count:
            candidates = [tier for tier in range(3) if shares[tier] > 0]
            split[max(candidates, key=lambda tier: wanted[tier] - split[tier])] += 1
        given = [g + s for g, s in zip(given, split, strict=True)]
        splits.append((split[0], split[1], split[2]))
    return splits


def micro_batches(rows: int, policy: OffloadPolicy) -> list[int]:
    """Rows of each micro-batch of a block of `rows` sequences (the last ones may be smaller)."""
    full, rest = divmod(rows, policy.gpu_batch)
    return [policy.gpu_batch] * full + ([rest] if rest else [])


def kv_splits(
    dims: OffloadDims, batches: Sequence[int], policy: OffloadPolicy
) -> list[list[tuple[int, int, int]]]:
    """[layer][micro-batch] → sequences whose KV is on GPU, CPU and disk."""
    counts = [rows for _ in range(dims.layers) for rows in batches]
    flat = split_rows(counts, policy.shares("kv"))
    width = len(batches)
    return [flat[layer * width : (layer + 1) * width] for layer in range(dims.layers)]


def act_splits(batches: Sequence[int], policy: OffloadPolicy) -> list[tuple[int, int, int]]:
    """[micro-batch] → sequences whose activations rest on GPU, CPU and disk between units."""
    return split_rows(batches, policy.shares("act"))
