"""A machine's rates straight from the records of `plumbline profile offload`.

Each rate is work over busy time, summed over every record that tells of it. A run without overlap
gives the cleanest rates; with overlap a stage's time may hold waiting for a link that it shares.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from analyzer.errors import DataError
from analyzer.offload_machine import OffloadMachine
from analyzer.offload_shapes import OffloadDims, tensor_B, tensors
from analyzer.records import Record

LINK_RATES = {
    "h2d_Bps": ("h2d", ("load_weight", "load_cache", "load_hidden")),
    "d2h_Bps": ("d2h", ("store_cache", "store_hidden")),
    "disk_read_Bps": ("disk_read", ("load_weight", "load_cache", "load_hidden")),
    "disk_write_Bps": ("disk_write", ("store_cache", "store_hidden")),
}
WORK_RATES = {
    "gpu_flops": ("gpu", "compute", "prefill", "rate_FLOPps"),
    "attention_flops": ("gpu", "attend", "prefill", "rate_FLOPps"),
    "cpu_attention_Bps": ("cpu", "attend", "decode", "bandwidth_Bps"),
}


def machine_from_records(
    start: OffloadMachine, records: Iterable[Record], dims: OffloadDims, itemsize: int
) -> tuple[OffloadMachine, list[str]]:
    """`start` with every rate that the records tell, and the names of those rates.

    Rates that no record tells stay as they are in `start`.
    """
    stages = [record for record in records if record.kind == "offload" and "link" in record.case]
    if not stages:
        raise DataError("no record of an offload stage: run `plumbline profile offload` first")
    found = _links(stages) | _work(stages) | _memory(stages, dims, itemsize)
    return replace(start, **found), sorted(found)


def _pick(records: Sequence[Record], **case: object) -> list[Record]:
    return [
        record
        for record in records
        if all(record.case.get(key) == value for key, value in case.items())
    ]


def _links(records: Sequence[Record]) -> dict[str, float]:
    rates = {}
    for name, (link, stages) in LINK_RATES.items():
        told = [r for r in _pick(records, link=link) if r.case["stage"] in stages]
        moved = sum(record.metrics["moved_B"] for record in told)
        busy = sum(record.metrics["busy_s"] for record in told)
        if moved > 0 and busy > 0:
            rates[name] = moved / busy
    return rates


def _work(records: Sequence[Record]) -> dict[str, float]:
    rates = {}
    for name, (link, stage, phase, metric) in WORK_RATES.items():
        told = [
            r for r in _pick(records, link=link, stage=stage, phase=phase) if metric in r.metrics
        ]
        busy = sum(record.metrics["busy_s"] for record in told)
        work = sum(record.metrics[metric] * record.metrics["busy_s"] for record in told)
        if busy > 0:
            rates[name] = work / busy
    return rates


def _memory(records: Sequence[Record], dims: OffloadDims, itemsize: int) -> dict[str, float]:
    """Memory rate of the device: in decoding every micro-batch reads each weight once."""
    read_B = sum(tensor_B(t, itemsize, 16) for t in tensors(dims) if t.kind != "table")
    if dims.tied:
        read_B += dims.vocab * dims.hidden * itemsize
    told = _pick(records, link="gpu", stage="compute", phase="decode")
    busy = sum(record.metrics["busy_s"] for record in told)
    passes = sum(record.metrics["jobs_count"] for record in told) / (dims.layers + 1)
    return {"hbm_Bps": passes * read_B / busy} if busy > 0 else {}
