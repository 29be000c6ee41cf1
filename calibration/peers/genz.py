"""GenZ (genz-llm): our catalog's sizes and figures go in, so that names cannot mislead it.

GenZ multiplies one efficiency into compute and memory time and leaves communication alone, so one
run at efficiency 1 tells the times at all others. Decoding is asked for at the middle of the
output, which is where a mean TPOT belongs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyzer import precision
from analyzer.units import GIB
from calibration.peers.base import Answer, Asked, run_worker, two_phases, unanswered
from calibration.peers.dense import Unsuitable, sizes

WORKER = Path(__file__).with_name("genz_worker.py")
BITS = {16: "bf16", 8: "int8"}
LEAST_HOP_S = 1e-6


def genz(asked: Sequence[Asked], python: str = "") -> dict[str, Answer]:
    """Ask GenZ at efficiency 1; what its efficiency does not touch comes back apart."""
    answers: dict[str, Answer] = {}
    requests = []
    for row in asked:
        try:
            requests.append(_request(row))
        except Unsuitable as error:
            answers[row.id] = unanswered(str(error))
    by_id = {row.id: row for row in asked}
    for reply in run_worker(WORKER, python or sys.executable, requests):
        row = by_id[reply["id"]]
        answers[row.id] = _answer(row, reply)
    return answers


def _answer(row: Asked, reply: dict[str, Any]) -> Answer:
    if "problem" in reply:
        return unanswered(str(reply["problem"]))
    prefill, decode = reply["prefill_ms"], reply["decode_ms"]
    return two_phases(
        row.case,
        ((prefill[0] - prefill[1]) / 1e3, prefill[1] / 1e3),
        ((decode[0] - decode[1]) / 1e3, decode[1] / 1e3),
    )


def _request(row: Asked) -> dict[str, Any]:
    case, device = row.case, row.system.device
    plan, load = case.plan, case.workload
    bits = precision.lookup(plan.weights).bits
    if bits not in BITS:
        raise Unsuitable("GenZ has one precision for weights and arithmetic alike")
    if plan.dp > 1 or plan.ep > 1:
        raise Unsuitable("replicas or experts over devices")
    link = row.system.intra_node
    return {
        "id": row.id,
        "model": sizes(case.model),
        "system": {
            "Flops": device.peak("bf16") / 1e12,
            "Memory_size": device.memory_B / GIB,
            "Memory_BW": device.memory_bandwidth_Bps / GIB,
            "ICN": (link.bandwidth_Bps if link else 1e9) / GIB,
            "ICN_LL": max(link.latency_s if link else LEAST_HOP_S, LEAST_HOP_S) * 1e6,
            "real_values": True,
        },
        "bits": BITS[int(bits)],
        "tp": int(plan.tp),
        "pp": int(plan.pp),
        "batch": int(load.batch),
        "input": int(load.input_tokens),
        "middle": int(load.output_tokens) // 2,
    }
