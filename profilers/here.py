"""The hook of the source `measured`: times one operator on this machine, now, and keeps it.

What was measured goes into a store like any other record, so that no shape is measured twice, and
the same records can serve as a table (`table:STORE`) later.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from analyzer.errors import ProfilerError
from analyzer.records import Record, Scalar, Scenario
from analyzer.sources.measured import Reading, Request
from profilers.cases import Case, Described, Failure, Outcome
from profilers.operators import RULES
from profilers.results import outcome_record
from profilers.store import Store, read

_FORMATS = {"fp8_block": "fp8", "sq": "int8", "int4_wo": "int4"}
"""What a table's format is called by the profiles."""


class Here:
    """A measurer with a torch device of its own, made when the first unknown shape is asked for."""

    def __init__(self, store: Path | None = None, device: str = "auto") -> None:
        self.store = store
        self.device = device
        self._bench: Any = None
        self._described: Described | None = None
        self._known = dict(_kept(store)) if store is not None else {}

    def __call__(self, request: Request) -> Reading:
        """Seconds of one operator, from the store where it holds them."""
        bench = self._workbench()
        case = case_of(request, "eager" if bench.is_cpu else "graph")
        if case.id not in self._known:
            self._known[case.id] = self._measured(case)
        return self._known[case.id]

    def _workbench(self) -> Any:
        if self._bench is None:
            from profilers.workbench import Workbench

            self._bench = Workbench(self.device, threads=None, scratch=".")
            self._described = self._bench.describe() if self.store is not None else None
        return self._bench

    def _measured(self, case: Case) -> Reading:
        for answer in self._bench.measure([case], RULES, seed=0):
            if isinstance(answer, Failure):
                raise ProfilerError(f"{answer.code}: {answer.reason}")
            self._keep(case, answer)
            return Reading(answer.metrics["latency_s"], _noise(answer))
        raise ProfilerError(f"{case.title}: was not measured")

    def _keep(self, case: Case, answer: Outcome) -> None:
        described = self._described
        if self.store is None or described is None:
            return
        environment = described.environment
        fingerprint = environment.fingerprint
        with Store(self.store, environment.facts, fingerprint=fingerprint) as store:
            if case.id not in store.done:
                store.append(case.id, outcome_record(case, answer, described))


def case_of(request: Request, launch: str) -> Case:
    """The profile's case for what a prediction asks; ProfilerError where there is none."""
    shape = {name: max(round(value), 1) for name, value in request.shape}
    dtype = _FORMATS.get(request.dtype, request.dtype)
    asked: dict[str, Scalar] = {"op": request.op, "dtype": dtype}
    if request.op == "gemm":
        asked |= shape
    elif request.op in ("attn_decode", "attn_prefill"):
        if request.kv_dtype == "fp8":
            raise ProfilerError("attention over an 8-bit cache has no profile")
        asked |= _attention(request.op, shape)
    else:
        raise ProfilerError(f"{request.op}: a part of a fused layer cannot be measured alone")
    return Case(
        profile="operators",
        kind="operator",
        scenario=Scenario(engine="torch", gpus=1),
        case={**asked, "cache": "cold", "launch": launch},
    )


def _attention(op: str, shape: dict[str, int]) -> dict[str, Scalar]:
    prefill = op == "attn_prefill"
    if prefill and shape["new"] != shape["keys"]:
        raise ProfilerError("attention of a chunk behind others has no profile")
    return {
        "n_heads": shape["kv_heads"] * shape["shared"],
        "n_kv_heads": shape["kv_heads"],
        "head_dim": shape["head_dim"],
        "variant": "sdpa",
        "batch": shape["batch"],
        "q_len" if prefill else "kv_len": shape["keys"],
    }


def _kept(store: Path) -> Iterator[tuple[str, Reading]]:
    for entry in read(store).entries:
        record = entry.decode(Record)
        if "latency_s" in record.metrics:
            yield entry.case, Reading(record.metrics["latency_s"], _spread(record.spread))


def _noise(answer: Outcome) -> float:
    return _spread(answer.spread)


def _spread(spread: dict[str, dict[str, float]]) -> float:
    """Relative standard deviation of the samples; of one sample nothing is known: 0.1."""
    held = spread.get("latency_s", {})
    return held["sd"] / held["mean"] if held.get("mean") and "sd" in held else 0.1
