"""aiconfigurator-core: its own tables of kernel timings, asked for a fixed batch ("static").

The wheel names a dozen systems and three engines; rows of others are answered with that reason.
Models go in as a configuration of their sizes, so that the list of names does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analyzer import precision
from analyzer.engines import engine
from calibration.peers.base import Answer, Asked, run_worker, two_phases, unanswered
from calibration.peers.dense import Unsuitable, sizes

WORKER = Path(__file__).with_name("aiconfigurator_worker.py")
SYSTEMS = {
    "A100-SXM-80GB": "a100_sxm",
    "A100-PCIe-80GB": "a100_pcie",
    "B200-SXM-180GB": "b200_sxm",
    "GB200": "gb200",
    "H100-PCIe": "h100_pcie",
    "H100-SXM": "h100_sxm",
    "H200-SXM": "h200_sxm",
    "L40S": "l40s",
}
BACKENDS = {"vllm": "vllm", "tensorrt-llm": "trtllm", "sglang": "sglang"}
QUANTISED = {"fp8": "fp8", "bf16": "bfloat16", "fp16": "bfloat16"}


def aiconfigurator(asked: Sequence[Asked], python: str = "") -> dict[str, Answer]:
    """Ask for prefill and decoding of every row."""
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
        if "problem" in reply:
            answers[row.id] = unanswered(str(reply["problem"]))
            continue
        steps = max(row.case.workload.output_tokens - 1.0, 1.0)
        prefill_s, decode_s = reply["prefill_ms"] / 1e3, reply["decode_ms"] / 1e3
        answers[row.id] = two_phases(row.case, (0.0, prefill_s), (0.0, decode_s / steps))
    return answers


def _request(row: Asked) -> dict[str, Any]:
    plan, load = row.case.plan, row.case.workload
    if row.system.name not in SYSTEMS:
        raise Unsuitable("no tables of this system")
    family = engine(row.engine).family
    if family not in BACKENDS:
        raise Unsuitable("no tables of this engine")
    form = precision.lookup(plan.weights).name
    if form not in QUANTISED:
        raise Unsuitable(f"{form} weights are not asked for here")
    return {
        "id": row.id,
        "model": sizes(row.case.model),
        "system": SYSTEMS[row.system.name],
        "backend": BACKENDS[family],
        "weights": QUANTISED[form],
        "tp": int(plan.tp),
        "pp": int(plan.pp),
        "batch": int(load.batch),
        "input": int(load.input_tokens),
        "output": int(load.output_tokens),
    }
