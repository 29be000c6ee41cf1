"""An answer as one JSON document: every figure in SI units, with its unit in its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from analyzer.answer import Answer
from analyzer.basis import BANDED_BY
from analyzer.explain import Line, bound, lines
from analyzer.predict import sizes

if TYPE_CHECKING:
    from analyzer.sources.credit import Credit

SCHEMA = 1
TIMES = ("ttft_s", "tpot_s", "e2e_s")
THROUGHPUTS = ("prefill_tok_s", "decode_tok_s", "total_tok_s")


def document(found: Answer, detail: bool = False) -> dict[str, Any]:
    """Everything that was predicted about one scenario. Throughputs are of the whole system."""
    listed = lines(found)
    return {
        "schema": SCHEMA,
        **_question(found),
        **{name: getattr(found.prediction, name) for name in (*TIMES, *THROUGHPUTS)},
        **_memory(found),
        **_bounds(found, listed),
        "energy_J_per_token": found.prediction.energy_J_per_token,
        "usd_per_million_tokens": found.prediction.usd_per_million_tokens,
        **_trust(found),
        **({"sources": _sources(found)} if found.basis.ladder else {}),
        **({"operators": [line._asdict() for line in listed]} if detail else {}),
    }


def _question(found: Answer) -> dict[str, Any]:
    total, active = sizes(found.model)
    plan, load = found.plan, found.workload
    layout = (
        "tp",
        "pp",
        "dp",
        "ep",
        "attention_dp",
        "weights",
        "activations",
        "kv",
        "chunk_tokens",
    )
    asked = ("batch", "input_tokens", "output_tokens", "beams", "cached_tokens")
    return {
        "model": found.model.name,
        "system": found.system.name,
        "engine": plan.engine,
        "params": total,
        "params_active": active,
        "devices": plan.devices,
        "plan": {
            **{name: getattr(plan, name) for name in layout},
            "offload": msgspec.structs.asdict(plan.offload) if plan.offload else None,
        },
        "workload": {name: getattr(load, name) for name in asked},
        "arrival": found.arrival,
    }


def _memory(found: Answer) -> dict[str, Any]:
    memory = found.prediction.memory
    held = {name.removesuffix("_B"): value for name, value in memory._asdict().items()}
    fits = np.asarray(memory.total_B) <= found.system.device.memory_B
    fits &= np.asarray(found.prediction.running) >= found.workload.batch
    read = found.peaks()
    return {
        "memory_B": {**held, "total": memory.total_B},
        "memory_per": "fullest device",
        "peak_B": {
            "allocated": read.allocated_B,
            "driver": read.driver_B,
            "set_aside": read.pool_B,
            "cache_room": read.cache_B,
        },
        "cache_tokens": None if read.cache_tokens is None else np.floor(read.cache_tokens),
        "device_memory_B": found.system.device.memory_B,
        "fits": bool(fits),
        "max_batch": found.prediction.max_batch,
        "running": found.prediction.running,
    }


def _bounds(found: Answer, listed: list[Line]) -> dict[str, Any]:
    binds = bound(found, listed)
    return {
        "bound": binds.overall,
        "bound_prefill": binds.prefill,
        "bound_decode": binds.decode,
    }


def _trust(found: Answer) -> dict[str, Any]:
    basis = found.basis
    bounds = {name: found.interval(name) for name in BANDED_BY}
    interval = {
        name: {"level": held.level, "low": held.low, "high": held.high}
        for name, held in bounds.items()
        if held is not None
    }
    return {
        "calibration": basis.calibration.id if basis.calibration else None,
        "rates": basis.label,
        "interval": interval or None,
        "warnings": list(found.warnings),
    }


def _sources(found: Answer) -> dict[str, Any]:
    """Who timed the operators, in which order they were asked, and what fell back and why."""
    ladder = found.basis.ladder
    if ladder is None:
        return {}
    first, later = found.credits()
    return {
        "asked": ladder.spec.split(","),
        "prefill": _credit(first),
        "decode": _credit(later),
        "left_out": {source.name: dict(source.notes) for source in ladder.sources if source.notes},
        "interval_from": "the sources' own uncertainties; the host is taken as exact",
    }


def _credit(held: Credit) -> dict[str, Any]:
    return {
        "share_of_time": {name: float(np.mean(share)) for name, share in held.shares.items()},
        "operators": held.answered,
        "uncertainty": float(np.max(held.doubt)),
        "remarks": held.remarks,
    }
