"""Profile `operators`: the kernels of a forward pass, at the sizes of released models.

Matrix products are measured with a cold last-level cache, as decoding finds them, and some hot as
well; on a GPU from a CUDA graph, and some eagerly, since what the host adds per launch is a rate of
its own. Names and units of a case follow the published operator tables (m, n, k, q_len, kv_len …).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from analyzer.records import INPUT_MAJOR, Scalar, Scenario
from profilers import estimates
from profilers.cases import Case, Failure, Machine, Outcome, Planned
from profilers.model_shapes import EXPERTS, SCANS, SHAPES, ExpertShape, ScanShape, Shape
from profilers.options import Options
from profilers.stopping import Rules

if TYPE_CHECKING:
    from profilers.workbench import Workbench

RULES = Rules(
    min_samples=10,
    min_time_s=0.02,
    max_noise=0.01,
    max_samples=400,
    cap_s=2.0,
    warmup_s=0.4,
    retake_s=1.5,
)
TOKENS = {
    "tiny": (1, 8, 32),
    "small": (1, 2, 4, 16, 64, 256, 1024),
    "large": (1, 4, 16, 64, 256, 1024, 4096, 16384),
}
FIRST = -1
"""Priority of what a system file cannot do without."""
PEAK = {"tiny": 128, "small": 2048, "large": 8192}
"""Side of the square product that shows what a format can reach at best."""
QUERIES = {"tiny": (8, 32), "small": (64, 256, 1024), "large": (128, 512, 2048, 8192)}
CONTEXTS = {"tiny": (16, 64), "small": (128, 1024, 4096), "large": (512, 2048, 8192, 32768)}
SEQUENCES = {"tiny": (1, 2), "small": (1, 4, 16), "large": (1, 8, 32, 128)}
INT4_GROUP = 128
BATCHED = ("op", "dtype", "n", "cache", "layout")
"""Cases that agree in these share a worker."""
QUANTISED = ("int8", "fp8", "int4")
CORE_TOKENS = {
    "tiny": frozenset({1, 8, 32}),
    "small": frozenset({1, 2, 4, 256}),
    "large": frozenset({1, 16, 256, 1024, 4096}),
}
"""Rows that every format is measured at first."""

Draft = tuple[dict[str, Scalar], float, float, int]
"""A case, its FLOPs, its bytes and its priority."""


def plan(options: Options, machine: Machine) -> list[Planned]:
    """Every operator case for this machine."""
    size = estimates.size_of(options, machine)
    wanted = options.dtypes or machine.formats
    formats = [name for name in wanted if name in machine.formats]
    plain = [name for name in formats if name not in QUANTISED]
    # Norms and the like run in fp32 whatever format is asked for: its peak is always wanted.
    peaks = dict.fromkeys([*formats, *(name for name in ("fp32",) if name in machine.formats)])
    drafts: list[Draft] = [_peak(PEAK[size], dtype) for dtype in peaks]
    for shape in SHAPES[size]:
        for dtype in formats:
            rank = _rank(dtype, plain, machine)
            drafts += _gemms(shape, dtype, size, rank)
        for dtype in plain[:2]:
            drafts += _input_major(shape, dtype, size) if machine.device == "cpu" else []
            drafts += _attention(shape, dtype, size, compiled=machine.device != "cpu")
            drafts += _vectors(shape, dtype, size)
    for experts in EXPERTS[size]:
        drafts += _experts(experts, plain[0], TOKENS[size])
    for scan in SCANS[size]:
        drafts += _scans(scan, plain[0], QUERIES[size])
    launches = ("graph", "eager") if machine.device.startswith("cuda") else ("eager",)
    return [
        item for draft in drafts for launch in launches for item in _planned(draft, launch, machine)
    ]


def _planned(draft: Draft, launch: str, machine: Machine) -> Iterator[Planned]:
    case, flops, moved_B, priority = draft
    if case["dtype"] == "int8" and machine.device != "cpu" and int(case.get("m", 0)) <= 16:
        return  # CUDA's 8-bit product takes no fewer than 17 rows
    if launch == "eager" and machine.device != "cpu":
        if case.get("m", case.get("num_tokens", 1)) not in (1, 256) or case["cache"] == "hot":
            return  # the host's cost per launch does not depend on the size: a few suffice
        priority += 1
    call = estimates.call_s(machine, str(case["dtype"]), flops, moved_B)
    cold = case["cache"] == "cold"
    yield Planned(
        case=Case(
            profile="operators",
            kind="operator",
            scenario=Scenario(engine="torch", gpus=1),
            case={**case, "launch": launch},
        ),
        estimate_s=estimates.measuring_s(call, RULES, machine, cold),
        priority=priority,
        batch=" ".join(str(case.get(name, "")) for name in BATCHED) + f" {launch}",
        memory_B=2 * moved_B,
    )


def _peak(side: int, dtype: str) -> Draft:
    case: dict[str, Scalar] = {"op": "gemm", "dtype": dtype, "m": side, "n": side, "k": side}
    moved_B = (estimates.FORMAT_B[dtype] + 4) * side * side
    return {**case, "cache": "hot"}, 2.0 * side**3, moved_B, FIRST


def _rank(dtype: str, plain: Sequence[str], machine: Machine) -> int:
    """0 for the formats that models run in here: one on a GPU, two on a processor."""
    usual = plain[: 2 if machine.device == "cpu" else 1]
    return 0 if dtype in usual else 1 + (dtype in QUANTISED)


def _gemms(shape: Shape, dtype: str, size: str, rank: int) -> list[Draft]:
    """Projections of one block and the head."""
    queries, keys = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim
    weights = [
        (queries, shape.hidden),
        (keys, shape.hidden),
        (shape.inter, shape.hidden),
        (shape.hidden, shape.inter),
        (shape.vocab, shape.hidden),
    ]
    width = estimates.FORMAT_B[dtype]
    drafts: list[Draft] = []
    for n, k in weights:
        for m in TOKENS[size]:
            if (n == shape.vocab and m > 256) or (dtype == "int4" and k % INT4_GROUP):
                continue
            priority = rank + (m not in CORE_TOKENS[size])
            moved_B = n * k * width + m * (n + k) * 2
            case: dict[str, Scalar] = {"op": "gemm", "dtype": dtype, "m": m, "n": n, "k": k}
            drafts.append(({**case, "cache": "cold"}, 2.0 * m * n * k, moved_B, priority))
            if not rank and m in (1, 256):
                drafts.append(({**case, "cache": "hot"}, 2.0 * m * n * k, moved_B, 2))
    return drafts


def _input_major(shape: Shape, dtype: str, size: str) -> list[Draft]:
    """The block's widest projections with their weights kept input by input."""
    width = estimates.FORMAT_B[dtype]
    drafts: list[Draft] = []
    for n, k in ((shape.inter, shape.hidden), (shape.hidden, shape.inter)):
        for m in sorted(CORE_TOKENS[size]):
            case: dict[str, Scalar] = {"op": "gemm", "dtype": dtype, "m": m, "n": n, "k": k}
            moved_B = n * k * width + m * (n + k) * 2
            drafts.append(
                ({**case, "layout": INPUT_MAJOR, "cache": "cold"}, 2.0 * m * n * k, moved_B, 0)
            )
    return drafts


def _attention(shape: Shape, dtype: str, size: str, compiled: bool) -> list[Draft]:
    width = estimates.FORMAT_B[dtype]
    heads: dict[str, Scalar] = {
        "dtype": dtype,
        "n_heads": shape.heads,
        "n_kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "cache": "cold",
        "variant": "sdpa",
    }
    drafts: list[Draft] = []
    for batch in SEQUENCES[size]:
        for q_len in QUERIES[size]:
            if batch * q_len > 4 * max(QUERIES[size]):
                continue
            flops = 2.0 * batch * shape.heads * shape.head_dim * q_len * q_len
            sizes: dict[str, Scalar] = {"op": "attn_prefill", "batch": batch, "q_len": q_len}
            moved_B = 4.0 * batch * q_len * shape.heads * shape.head_dim * width
            drafts.append(({**sizes, **heads}, 4 * flops, moved_B, 0 if batch == 1 else 1))
        for kv_len in CONTEXTS[size]:
            moved_B = 2.0 * batch * kv_len * shape.kv_heads * shape.head_dim * width
            flops = 4.0 * batch * shape.heads * shape.head_dim * kv_len
            sizes = {"op": "attn_decode", "batch": batch, "kv_len": kv_len}
            drafts.append(({**sizes, **heads}, flops, 4 * moved_B, 0 if batch < 16 else 1))
    longest: dict[str, Scalar] = {"op": "attn_prefill", "batch": 1, "q_len": max(QUERIES[size])}
    flops = 4.0 * shape.heads * shape.head_dim * max(QUERIES[size]) ** 2
    drafts.append(({**longest, **heads, "variant": "flash"}, flops, 0.0, 2))
    if compiled:
        drafts.append(({**longest, **heads, "variant": "flex"}, 20 * flops, 0.0, 2))
    return drafts


def _vectors(shape: Shape, dtype: str, size: str) -> list[Draft]:
    """Norm, rotary embedding, activation, residual, softmax, sampling, gather, cache write."""
    width = estimates.FORMAT_B[dtype]
    sizes = {
        "rms_norm": shape.hidden,
        "rms_norm_eager": shape.hidden,
        "rope": shape.heads * shape.head_dim,
        "silu_mul": shape.inter,
        "residual_add": shape.hidden,
        "softmax": shape.vocab,
        "argmax": shape.vocab,
        "top_k_sampling": shape.vocab,
        "embedding": shape.hidden,
        "cache_concat": shape.kv_heads * shape.head_dim,
    }
    drafts: list[Draft] = []
    for op, n in sizes.items():
        for m in CORE_TOKENS[size]:
            if n == shape.vocab and m > 16:
                continue
            case: dict[str, Scalar] = {"op": op, "dtype": dtype, "m": m, "n": n, "cache": "hot"}
            if op == "rope":
                case["head_dim"] = shape.head_dim
            drafts.append((case, 0.0, 6.0 * m * n * width, 1))
    return drafts


def _experts(shape: ExpertShape, dtype: str, tokens: Sequence[int]) -> list[Draft]:
    drafts: list[Draft] = []
    for count in tokens:
        pairs = count * shape.top_k
        touched = shape.experts * (1 - (1 - 1 / shape.experts) ** pairs)
        flops = 6.0 * pairs * shape.hidden * shape.inter
        moved_B = 3 * touched * shape.hidden * shape.inter * estimates.FORMAT_B[dtype]
        for variant in ("grouped_mm", "loop"):
            case: dict[str, Scalar] = {
                "op": "moe",
                "dtype": dtype,
                "num_tokens": count,
                "experts": shape.experts,
                "topk": shape.top_k,
                "hidden": shape.hidden,
                "inter": shape.inter,
                "cache": "cold",
                "variant": variant,
            }
            drafts.append((case, flops, moved_B, 1 if variant == "grouped_mm" else 2))
    return drafts


def _scans(shape: ScanShape, dtype: str, lengths: Sequence[int]) -> list[Draft]:
    """A state-space scan over a prompt, and one step of its recurrence."""
    drafts: list[Draft] = []
    state_B = 4.0 * shape.heads * shape.head_dim * shape.state
    sizes: dict[str, Scalar] = {
        "dtype": dtype,
        "n_heads": shape.heads,
        "head_dim": shape.head_dim,
        "state": shape.state,
        "cache": "hot",
    }
    for length in lengths:
        case: dict[str, Scalar] = {"op": "ssm_scan", "batch": 1, "q_len": length}
        flops = 6.0 * length * shape.heads * shape.head_dim * shape.state
        drafts.append(({**case, **sizes}, 4 * flops, state_B, 1))
    for batch in (1, 8):
        drafts.append(({"op": "ssm_step", "batch": batch, **sizes}, 0.0, 3 * batch * state_B, 1))
    return drafts


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Time the cases of one batch in random turns."""
    from profilers.operator_work import measure_operators

    return measure_operators(cases, bench, rules, seed)
