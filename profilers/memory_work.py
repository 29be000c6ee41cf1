"""Counts the bytes of a model and of one prefill and decode step, part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analyzer.errors import ProfilerError
from analyzer.records import Scalar
from profilers.cases import Case, Failure, Outcome
from profilers.ledger import Ledger, allocator_peak_B
from profilers.modelling import attention_of, build_model, make_config, parameter_B, token_ids
from profilers.worker import classify, failure

if TYPE_CHECKING:
    from profilers.workbench import Workbench


def measure_memory(cases: Sequence[Case], bench: Workbench) -> Iterator[Outcome | Failure]:
    """Answer each case; a model is freed before the next is built."""
    for case in cases:
        try:
            yield _account(case, bench)
        except (RuntimeError, MemoryError, NotImplementedError, TypeError, ValueError) as error:
            yield failure(case, error)
            if classify(error) == "crash":
                return
        bench.free()


def _account(case: Case, bench: Workbench) -> Outcome:
    """Build, prefill, take one decode step, and say where every byte is."""
    scenario = case.scenario
    config = make_config(json.loads(str(case.case["config"])))
    start_B = _allocated_B(bench)
    _forget_process_peak()
    model = build_model(config, scenario.weight_precision, bench)
    weights_B = parameter_B(model)
    resident_B = _allocated_B(bench) - start_B if not bench.is_cpu else weights_B
    batch, length = int(scenario.concurrency or 1), int(scenario.input_tokens or 1)
    prompt = token_ids(bench, batch, length, int(config.vocab_size))
    keep = 0 if case.case["logits"] == "all" else 1
    model(input_ids=prompt[:, :1], use_cache=False, logits_to_keep=1)  # loads the libraries
    ledger, peak_B, cached, logits = _forward(model, prompt, keep, bench)
    ledger_B = ledger.peak_B()
    metrics = {
        "weights_B": weights_B,
        "kv_cache_B": float(sum(tensor.nbytes for tensor in cached)),
        "logits_B": float(logits.nbytes),
        "activations_B": ledger.peak_B(without=[*cached, logits]),
        "workspace_B": max(0.0, peak_B - ledger_B),
        "peak_mem_B": resident_B + max(peak_B, ledger_B),
        **_device_figures(bench),
    }
    notes: dict[str, Scalar] = {
        "quality": "ok",
        "attention_used": attention_of(model),
        "ledger_peak_B": ledger_B,
        "weights_with_rounding_B": resident_B,
        "kv_cache_after_tokens": length,
    }
    return Outcome(case=case.id, metrics=metrics, notes=notes)


def _forward(
    model: Any, prompt: Any, keep: int, bench: Workbench
) -> tuple[Ledger, float, list[Any], Any]:
    """(ledger, allocator's peak beyond what stood before, cached tensors, logits) of a prefill.

    Run twice: the ledger slows the pass and must not be in the allocator's figure.
    """

    def prefill() -> tuple[list[Any], Any]:
        out = model(input_ids=prompt, use_cache=True, logits_to_keep=keep)
        return list(_tensors(out.past_key_values)), out.logits

    peak_B = allocator_peak_B(prefill, bench)
    bench.free()
    with Ledger([*model.parameters(), *model.buffers(), prompt]) as ledger:
        cached, logits = prefill()
    return ledger, peak_B, cached, logits


def _tensors(cache: Any) -> Iterator[Any]:
    """Every tensor that a cache's layers hold: keys and values, or recurrent states."""
    for layer in cache.layers:
        for held in vars(layer).values():
            entries = held.values() if isinstance(held, dict) else [held]
            for entry in entries:
                if hasattr(entry, "nbytes") and getattr(entry, "dim", lambda: 0)() > 0:
                    yield entry


def _allocated_B(bench: Workbench) -> float:
    return 0.0 if bench.is_cpu else float(bench.torch.cuda.memory_allocated(bench.device))


def _device_figures(bench: Workbench) -> dict[str, float]:
    """The allocator's reserve and the driver's view on a GPU; the process's own on a CPU."""
    if bench.is_cpu:
        return {"process_B": _process_peak_B()}
    free_B, total_B = bench.torch.cuda.mem_get_info(bench.device)
    return {
        "reserved_B": float(bench.torch.cuda.max_memory_reserved(bench.device)),
        "device_used_B": float(total_B - free_B),
    }


def _forget_process_peak() -> None:
    """Linux keeps the peak of a process's memory until it is told to start anew."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return  # not Linux, or not permitted: then the peak is that of the whole process


def _process_peak_B() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) * 1024
    raise ProfilerError("the system does not report the peak of a process's memory")
