"""Profile `gauge`: the machine's pace, by three fixed pieces of work, again and again.

A shared host is faster in one minute than in another. Each visit of a campaign and of a check times
the same large product, the same stream and the same imitation of a small model's step, so that it
is known how fast the machine was while either was measured. Nothing is fitted to these figures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from analyzer.records import REPEAT, Scenario
from profilers import estimates
from profilers.cases import Case, Failure, Machine, Outcome, Planned
from profilers.options import Options
from profilers.stopping import Rules
from profilers.work import Work

if TYPE_CHECKING:
    from profilers.workbench import Workbench

RULES = Rules(
    min_samples=5, min_time_s=0.1, max_noise=0.01, max_samples=100, cap_s=1.0,
    warmup_s=0.1, retake_s=1.0,
)  # fmt: skip
VISITS = {"tiny": 2, "small": 8, "large": 2}
SIDE = {"tiny": 128, "small": 1024, "large": 8192}
ARRAY_B = {"tiny": 1 << 20, "small": 1 << 26, "large": 1 << 30}
STEP = {"tiny": (64, 2), "small": (768, 24), "large": (4096, 16)}
"""Width and layers of the imitated step: weights far beyond the cache, and many small calls."""
SMALL_CALLS = 40
"""Per layer, as eager model code has them beside its products."""
PRIORITY = 0


def plan(options: Options, machine: Machine) -> list[Planned]:
    """As many visits as a processor's generations get."""
    size = estimates.size_of(options, machine)
    return [item for number in range(VISITS[size]) for item in visit(options, machine, number)]


def visit(options: Options, machine: Machine, number: int) -> list[Planned]:
    """One visit: each of the three once."""
    size = estimates.size_of(options, machine)
    side, (width, layers) = SIDE[size], STEP[size]
    dtype = "bf16" if "bf16" in machine.formats else machine.formats[0]
    step_B = layers * 9 * width * width * estimates.FORMAT_B[dtype]
    work = {
        "gauge_product": ("fp32", 2.0 * side**3, 12.0 * side**2),
        "gauge_stream": ("fp32", 0.0, 3.0 * ARRAY_B[size]),
        "gauge_step": (dtype, 0.0, step_B),
    }
    return [
        Planned(
            case=Case(
                profile="gauge",
                kind="operator",
                scenario=Scenario(engine="torch", gpus=1),
                case={"op": op, "dtype": kind, "size": size, REPEAT: number},
            ),
            estimate_s=estimates.measuring_s(
                estimates.call_s(machine, kind, flops, moved_B), RULES, machine
            ),
            priority=PRIORITY,
            batch=f"gauge {number}",
            memory_B=moved_B,
        )
        for op, (kind, flops, moved_B) in work.items()
    ]


def measure(
    cases: Sequence[Case], bench: Workbench, rules: Rules, seed: int
) -> Iterator[Outcome | Failure]:
    """Time the three in random turns."""
    from profilers.operator_work import measure_operators

    return measure_operators(cases, bench, rules, seed)


def product(case: Mapping[str, Any], bench: Workbench) -> Work:
    """A large square product."""
    side = SIDE[str(case["size"])]
    a, b = bench.normal(side, side, dtype="fp32"), bench.normal(side, side, dtype="fp32")
    return Work(run=lambda: bench.torch.mm(a, b), flops=2.0 * side**3)


def stream(case: Mapping[str, Any], bench: Workbench) -> Work:
    """a ← b + s·c over arrays far larger than the cache."""
    count = ARRAY_B[str(case["size"])] // 4
    b, c = bench.normal(count, dtype="fp32"), bench.normal(count, dtype="fp32")
    a = bench.torch.empty_like(b)
    return Work(run=lambda: bench.torch.add(b, c, alpha=3.0, out=a), moved_B=3.0 * b.nbytes)


def step(case: Mapping[str, Any], bench: Workbench) -> Work:
    """Products of one row with weights that no cache holds, and small calls between them."""
    width, layers = STEP[str(case["size"])]
    dtype = str(case["dtype"])
    scale = width**-0.5
    weights = [
        (
            bench.normal(width, width, dtype=dtype, scale=scale),
            bench.normal(4 * width, width, dtype=dtype, scale=scale),
            bench.normal(width, 4 * width, dtype=dtype, scale=scale / 2.0),
        )
        for _ in range(layers)
    ]
    start = bench.normal(1, width, dtype=dtype)
    linear = bench.torch.nn.functional.linear

    def run() -> None:
        x = start
        for first, wide, narrow in weights:
            for _ in range(SMALL_CALLS):
                x = x * 1.0
            x = linear(linear(linear(x, first), wide), narrow)

    held_B = float(sum(weight.nbytes for layer in weights for weight in layer))
    return Work(run=run, moved_B=held_B)


PIECES = {"gauge_product": product, "gauge_stream": stream, "gauge_step": step}
