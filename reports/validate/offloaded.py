"""FlexGen's published policies on one T4, forecast by the model of its schedule."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from analyzer.offload_flexgen import FlexGenRun, forecast_flexgen
from analyzer.offload_known import FLEXGEN_T4, FLEXGEN_T4_QUIRKS, opt_dims
from analyzer.offload_machine import OffloadMachine
from analyzer.records import Record
from calibration.corpus import PERF_DIR, load_corpus
from calibration.offload_fit import Observation, fit_machine
from reports.validate.table import Cell, Table, table

FOLDER = PERF_DIR / "offload" / "policies"
CAPTION = (
    "**FlexGen's policies on one T4** (512, 256 or 1,024 prompt tokens, 32 generated; tokens per "
    "second). Left out: the one rate that no source states for such a policy (attention on the "
    "host, or reading from disk) is fitted to the other policies of its kind. Above 0: too fast"
)


@cache
def flexgen_lines() -> Table:
    """Every published policy: measured, ours, ours without that policy, FlexGen's own model."""
    records = load_corpus(FOLDER).records
    lines = [_line(record, records) for record in records]
    columns = (
        "model",
        "block:count",
        "prompt:count",
        "weights GPU/host/disk",
        "measured tok/s:number",
        "ours:signed",
        "ours, policy left out:signed",
        "FlexGen's own model:signed",
    )
    return table("flexgen_t4", columns, lines, CAPTION)


def _line(record: Record, records: Sequence[Record]) -> list[Cell]:
    measured = record.metrics["output_tok_s"]
    kin = [r for r in records if r is not record and _on_disk(r) == _on_disk(record)]
    rate = "disk_read_Bps" if _on_disk(record) else "cpu_attention_Bps"
    without = fit_machine(FLEXGEN_T4, [rate], [_observation(r) for r in kin]).machine
    places = [f"{_share(record, f'realised_weights_{p}'):.0%}" for p in ("gpu", "cpu", "disk")]
    return [
        record.scenario.model,
        record.scenario.concurrency,
        record.scenario.input_tokens,
        " / ".join(places),
        measured,
        _tok_s(record, FLEXGEN_T4) / measured - 1,
        _tok_s(record, without) / measured - 1,
        float(record.case["code_model_tok_s"]) / measured - 1,
    ]


def _on_disk(record: Record) -> bool:
    return _share(record, "realised_weights_disk") > 0


def _share(record: Record, name: str) -> float:
    return float(record.case[f"{name}_percent"]) / 100.0


def _observation(record: Record) -> Observation:
    return Observation(record.metrics["output_tok_s"], lambda machine: _tok_s(record, machine))


def _tok_s(record: Record, machine: OffloadMachine) -> float:
    cache_gpu, cache_cpu = _share(record, "cache_gpu"), _share(record, "cache_cpu")
    run = FlexGenRun(
        prompt_len=int(record.scenario.input_tokens or 0),
        gen_len=int(record.scenario.output_tokens or 0),
        gpu_batch=int(record.case["gpu_batch"]),
        num_gpu_batches=int(record.case["gpu_batches"]),
        weights=[_share(record, f"realised_weights_{place}") for place in ("gpu", "cpu", "disk")],
        kv=[cache_gpu, cache_cpu, 1 - cache_gpu - cache_cpu],
        act_gpu=_share(record, "activations_gpu"),
        cpu_attention=cache_gpu < 1,
    )
    dims = opt_dims(record.scenario.model)
    return float(forecast_flexgen(dims, run, machine, FLEXGEN_T4_QUIRKS).tok_s)
