"""What a machine's own operator records say of its rates, before any whole model is looked at.

Whole generations cannot tell the arithmetic of a kernel from its traffic, nor either from what a
call costs; operators at many sizes can. Each record becomes one counted operator, all are timed by
the same forms that predictions use, and the rates that explain them become the priors of the fit to
whole generations. A record is timed alone and with a cold cache, so what a call costs beside its
work is a figure of its own here, and is not passed on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from analyzer.counting.attention import SOFTMAX_FLOPS
from analyzer.optable import COMPUTE_INDEX, Op, OpTable, stack
from analyzer.records import INPUT_MAJOR, Record, Scalar
from analyzer.timing.machine import Machine
from analyzer.timing.processor import FEW_ROWS
from analyzer.timing.rates import Rates
from analyzer.timing.roofline import time_ops
from calibration.collect import Group
from calibration.parameters import GENERIC, LINEAR, Prior, bounds, to_rates
from calibration.relevant import LAID, WIDE, relevant

Array = NDArray[np.float64]

WIDTH_B = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0}
"""Formats whose operators are looked at."""
RATES = (
    "gemm_eff_16", "gemm_eff_32", "gemm_half", "half_wide", "mem_eff", "mem_wide", "rows_wide",
    "rows_few", "turned_eff", "turned_wide", "sharpness", "sharpness_wide",
    "attention_eff", "attention_wide", "attention_half", "kv_eff", "kv_wide", "gqa_exponent",
)  # fmt: skip
LEAST = 20
"""Records below which nothing is concluded."""
SPREAD = 0.08
"""Standard deviation in ln(time) that forms are allowed on single operators."""
WORTH = 3.0
"""How much wider than the generic ones the priors of this fit are."""
CARRIED = 0.12
"""Least deviation, in ln, of what a model's operators do from what they do alone."""
CALL_S = 5e-5
"""Where the cost of one lone call with a cold cache is looked for."""


class Learnt(NamedTuple):
    """What operators alone say."""

    priors: tuple[Prior, ...]
    call_s: dict[str, float]
    """Cost of a lone call with a cold cache, by kind of operator and format: "gemm bf16"."""
    records: int
    error: float
    """Geomean error of the forms on these records, as a ratio."""


def learn(records: Iterable[Record], machine: Machine) -> Learnt | None:
    """Rates from operator records; None where there are too few."""
    rows = [(made, record) for record in records if (made := operator(record)) is not None]
    if len(rows) < LEAST:
        return None
    ops = [made for made, _ in rows]
    table = stack(ops)
    seconds = np.array([record.metrics["latency_s"] for _, record in rows])
    chosen = [_widened(name) for name in RATES if _met(name, ops)]
    calls = [f"{made.kind} {record.case['dtype']}" for made, record in rows]
    return _solve(table, seconds, calls, chosen, machine)


def _solve(
    table: OpTable, seconds: Array, calls: Sequence[str], priors: Sequence[Prior], machine: Machine
) -> Learnt:
    kinds, which = np.unique(np.array(calls), return_inverse=True)
    count = len(priors)
    centre = np.array([*(entry.centre for entry in priors), *[np.log(CALL_S)] * len(kinds)])
    width = np.array([*(entry.width for entry in priors), *[2.0] * len(kinds)])
    low, high = bounds(priors)
    low = np.append(low, [np.log(1e-8)] * len(kinds))
    high = np.append(high, [np.log(1e-2)] * len(kinds))

    def off(point: Array) -> Array:
        rates = to_rates(priors, point[:count], _alone())
        timed = time_ops(table, machine, rates).total_s + np.exp(point[count:])[which]
        return np.asarray(np.log(timed / seconds))

    def objective(point: Array) -> Array:
        return np.concatenate((off(point) / SPREAD, (point - centre) / width))

    start = np.clip(centre, low + 1e-6, high - 1e-6)
    solved = least_squares(
        objective, start, bounds=(low, high), loss="soft_l1", x_scale=width, max_nfev=200
    )
    jacobian = np.asarray(solved.jac)[: len(seconds)]
    covariance = np.linalg.inv(jacobian.T @ jacobian + np.diag(1.0 / width**2))
    deviation = np.sqrt(np.diag(covariance))
    carried = tuple(
        Prior(
            name=entry.name,
            centre=float(x),
            width=float(np.hypot(spread, CARRIED)),
            before=entry.width,
        )
        for entry, x, spread in zip(priors, solved.x, deviation, strict=False)
    )
    error = float(np.expm1(np.abs(off(solved.x)).mean()))
    costs = dict(zip(kinds.tolist(), np.exp(solved.x[count:]).tolist(), strict=True))
    return Learnt(carried, costs, len(seconds), error)


def _alone() -> Rates:
    """What is not fitted here: nothing in the way, since the call's cost is a figure of its own."""
    return Rates.default().with_values(vector_eff=1.0)


def _widened(name: str) -> Prior:
    generic = GENERIC[name]
    wide = generic.width if name in LINEAR else WORTH * generic.width
    return Prior(name=name, centre=generic.centre, width=wide)


def _met(name: str, ops: Sequence[Op]) -> bool:
    """Whether any of these operators could tell the rate."""
    formats = {op.compute for op in ops if op.kind == "gemm"}
    attended = {op.compute for op in ops if op.kind == "attention"}
    wide, narrow = COMPUTE_INDEX["fp32"], {COMPUTE_INDEX["bf16"], COMPUTE_INDEX["fp16"]}
    linear = [op for op in ops if op.kind == "gemm"]
    grouped = any(op.heads_per_group > 1 for op in ops)
    both, both_attended = _both(formats, wide, narrow), _both(attended, wide, narrow)
    tests = {
        "gemm_eff_16": bool(formats & narrow),
        "gemm_eff_32": wide in formats,
        "gemm_half": bool(formats),
        "mem_eff": bool(formats),
        "rows_wide": both,
        "rows_few": any(op.compute == wide and 1.0 < op.m < FEW_ROWS for op in linear),
        "turned_eff": any(op.compute in narrow and op.input_major for op in linear),
        "turned_wide": any(op.compute == wide and op.input_major for op in linear),
        "sharpness": bool(formats),
        "half_wide": both,
        "mem_wide": both,
        "sharpness_wide": both,
        "attention_wide": both_attended,
        "kv_wide": both_attended,
        "gqa_exponent": grouped,
    }
    return tests.get(name, bool(attended))


def _both(found: set[Any], wide: float, narrow: set[float]) -> bool:
    return wide in found and bool(found & narrow)


def operator(record: Record) -> Op | None:
    """The counted operator of a record; None where the forms know no such operator or format."""
    case = record.case
    build = BUILDERS.get(str(case.get("op", "")))
    usable = record.kind == "operator" and record.metrics.get("latency_s")
    if not usable or build is None or case.get("dtype") not in WIDTH_B:
        return None
    if case.get("variant", "sdpa") != "sdpa" or _alone_in_format(record):
        return None
    return build(case)


def _alone_in_format(record: Record) -> bool:
    """Lone fp16 products on processors without fp16 arithmetic: nothing runs so."""
    return record.case.get("dtype") == "fp16" and record.environment.get("device") == "cpu"


def _gemm(case: Mapping[str, Scalar]) -> Op:
    dtype = str(case["dtype"])
    m, n, k = (float(case[name]) for name in ("m", "n", "k"))
    width = WIDTH_B[dtype]
    return Op(
        "gemm", "gemm", flops=2.0 * m * n * k, weight_B=n * k * width, weight_bits=8.0 * width,
        act_B=m * (n + k) * width, m=m, n=n, k=k, launches=0.0, compute=COMPUTE_INDEX[dtype],
        input_major=float(case.get("layout") == INPUT_MAJOR),
    )  # fmt: skip


def _decode(case: Mapping[str, Scalar]) -> Op:
    return _attention(case, new=1.0, keys=float(case["kv_len"]), pairs=float(case["kv_len"]))


def _prefill(case: Mapping[str, Scalar]) -> Op:
    length = float(case["q_len"])
    return _attention(case, new=length, keys=length, pairs=length * (length + 1.0) / 2.0)


def _attention(case: Mapping[str, Scalar], new: float, keys: float, pairs: float) -> Op:
    dtype = str(case["dtype"])
    batch, heads, kv_heads, size = (
        float(case[name]) for name in ("batch", "n_heads", "n_kv_heads", "head_dim")
    )
    width = WIDTH_B[dtype]
    return Op(
        "attention", "attention", flops=4.0 * batch * heads * pairs * size,
        act_B=2.0 * batch * heads * new * size * width,
        kv_B=2.0 * batch * kv_heads * keys * size * width, weight_bits=8.0 * width,
        m=new, n=keys, k=size, groups=batch * kv_heads, heads_per_group=heads / kv_heads,
        launches=0.0, compute=COMPUTE_INDEX[dtype],
        vector_flops=SOFTMAX_FLOPS * batch * heads * pairs,
    )  # fmt: skip


BUILDERS: dict[str, Callable[[Mapping[str, Scalar]], Op]] = {
    "gemm": _gemm,
    "attn_decode": _decode,
    "attn_prefill": _prefill,
}


def priors_for_models(learnt: Learnt, group: Group) -> list[Prior]:
    """Beliefs for the fit to whole generations: operators' own word, else the generic ones.

    On a processor the host is the device, so nothing is issued behind its back (a kernel's own cost
    is what issuing it costs), and a handful of cores is never short of pieces of work.
    """
    known = {entry.name: entry for entry in learnt.priors}
    on_cpu = group.system.device.kind == "cpu"
    if on_cpu:
        known["launch_s"] = msgspec.structs.replace(GENERIC["host_launch_s"], name="launch_s")
    names = [name for name in relevant(group.problem) if not (on_cpu and name in NOT_ON_CPU)]
    own = [known.get(name, GENERIC[name]) for name in names]
    beyond = sorted((WIDE | LAID) - set(names))  # what no whole model ran in
    return [*own, *(known[name] for name in beyond if name in known)]


NOT_ON_CPU = frozenset({"host_launch_s", "kv_splits", "wave_loss"})
