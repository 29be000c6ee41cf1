"""One measurement, ours or published: what ran where, what it took, and how far to trust it.

A `Record` is what profilers write, what the corpus is made of and what calibration reads. Times are
seconds, sizes bytes, rates tokens per second over the whole system; every metric carries its unit
in its name. How a source defined a figure is kept beside it, and doubts are kept as flags: a record
is never dropped for being doubtful, only left out of a fit for a reason that can be shown.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from analyzer.errors import DataError, nearest
from analyzer.records_arrival import Arrival

SCHEMA = 1
"""Version of the record's shape; see records_codec.py for how older ones are read."""

Kind = Literal["e2e", "operator", "link", "collective", "layer", "memory", "offload", "serving"]
Severity = Literal["note", "suspect", "impossible"]
Verdict = Literal["good", "suspect", "impossible"]
Scalar = str | int | float | bool
REPEAT = "repeat"
"""Part of a case: which of several visits to one and the same measurement this is."""

INPUT_MAJOR = "input by input"
"""Of an operator's case, the `layout` of weights that are kept as transformers' Conv1D does."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Base of a record's parts: immutable and strict.

    Immutable parts cannot form cycles, so the garbage collector need not look at them.
    """


class Pool(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """The workers of one phase where prefill and decode run on machines of their own."""

    workers: int | None = None
    """How many workers of the layout below there are; None: not stated."""
    batch: float | None = None
    """Sequences at once of a worker, or of each of its ranks that hold whole sequences."""
    tp: int = 1
    pp: int = 1
    attention_dp: int = 1
    moe_tp: int = 1
    moe_ep: int = 1

    @property
    def gpus(self) -> int | None:
        """Devices of the whole pool, where its workers are counted."""
        each = self.tp * self.pp * self.attention_dp
        return None if self.workers is None else self.workers * each


class Scenario(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """What ran where. None is 'not stated', never zero."""

    hardware: str = ""
    gpus: int | None = None
    tp: int | None = None
    pp: int | None = None
    ep: int | None = None
    attention_dp: int | None = None
    moe_tp: int | None = None
    moe_ep: int | None = None
    prefill_pool: Pool | None = None
    decode_pool: Pool | None = None
    model: str = ""
    """The source's own name for the model."""
    engine: str = ""
    engine_version: str = ""
    weight_precision: str = ""
    kv_precision: str = ""
    concurrency: float | None = None
    """Sequences of a static batch, or requests in flight; a mean where the source gives one."""
    arrival: Arrival | None = None
    input_tokens: float | None = None
    """Prompt tokens of one sequence; a mean where lengths vary."""
    output_tokens: float | None = None
    variant: str = ""
    """Kernel, attention backend or setting that tells otherwise equal rows apart."""
    speculative: str = ""
    """Draft model or method where tokens were drafted; empty: none."""


class Flag(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One doubt or remark about a record."""

    code: str
    reason: str
    severity: Severity = "suspect"
    metrics: tuple[str, ...] = ()
    """Metrics it concerns; empty: the whole record."""

    def concerns(self, metric: str) -> bool:
        """True where the flag speaks of this metric."""
        return not self.metrics or metric in self.metrics


class Provenance(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """Where a figure comes from."""

    source: str
    """Short name of the source; for our own measurements the campaign."""
    document: str = ""
    """Repository, paper or page, with its commit or version."""
    place: str = ""
    """Row, line, table or file within the document."""
    licence: str = ""
    date: str = ""
    """When it was published or measured, as YYYY, YYYY-MM or YYYY-MM-DD."""
    commit: str = ""
    definitions: dict[str, str] = {}
    """What the source's figure behind each metric meant."""


class Record(_Part, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """One measurement with everything needed to use it, or to leave it out."""

    kind: Kind
    metrics: dict[str, float]
    provenance: Provenance
    scenario: Scenario = Scenario()
    case: dict[str, Scalar] = {}
    """What else was asked for: an operator's shape, a link's transfer size, an offload policy."""
    samples: dict[str, tuple[float, ...]] = {}
    """Raw samples of a metric, in the metric's unit."""
    spread: dict[str, dict[str, float]] = {}
    """Spread of a metric by statistic (sd, p25, p75, p99), in the metric's unit."""
    repeats: int | None = None
    derived: tuple[str, ...] = ()
    """Metrics worked out from another figure of the same row."""
    flags: tuple[Flag, ...] = ()
    environment: dict[str, Scalar] = {}
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        for name, value in self.metrics.items():
            check_metric(name, value)

    @property
    def verdict(self) -> Verdict:
        """The worst that any flag says of the record."""
        return _worst(self.flags)

    def verdict_on(self, metric: str) -> Verdict:
        """The worst that any flag says of one metric."""
        return _worst(flag for flag in self.flags if flag.concerns(metric))


def flagged(record: Record, *flags: Flag) -> Record:
    """The record with more flags; one that it has already is not added twice."""
    new = tuple(flag for flag in flags if flag not in record.flags)
    return msgspec.structs.replace(record, flags=record.flags + new) if new else record


METRICS: dict[str, str] = {
    "ttft_s": "time from the request to its first token; of a static batch: until all have one",
    "tpot_s": "mean time between tokens of one sequence, (e2e − ttft) / (output − 1)",
    "e2e_s": "time from the request to its last token; of a static batch: until all are done",
    "prefill_tok_s": "prompt tokens over prefill time, whole system",
    "decode_tok_s": "output tokens over decode time alone, whole system",
    "output_tok_s": "output tokens over the whole time, prefill included, whole system",
    "total_tok_s": "prompt and output tokens over the whole time, whole system",
    "request_rate_s": "requests finished per second, whole system",
    "peak_mem_B": "the most that weights, cache and buffers really took on all devices together",
    "pool_B": "memory that the engine set aside, used or not: no footprint",
    "reserved_B": "memory that the framework's allocator held",
    "device_used_B": "memory in use as the driver reports it, everything included",
    "process_B": "memory of the process on the host",
    "weights_B": "memory of the weights",
    "kv_cache_B": "memory of the key-value cache",
    "logits_B": "memory of logits that were kept",
    "workspace_B": "memory of libraries' workspaces",
    "activations_B": "memory of activations",
    "power_W": "mean power of all devices together",
    "energy_J_per_token": "energy per output token, all devices together",
    "latency_s": "time of one operator, transfer or collective",
    "bandwidth_Bps": "bytes moved per second",
}
"""The metrics that several rooms speak of. Others are welcome when their name ends in a unit."""

UNIT_SUFFIXES = (
    "_s",
    "_B",
    "_Bps",
    "_tok_s",
    "_W",
    "_J",
    "_J_per_token",
    "_FLOP",
    "_FLOPps",
    "_Hz",
    "_C",
    "_count",
    "_fraction",
)


def check_metric(name: str, value: float) -> None:
    """Refuse a metric without a unit in its name, or a value that no instrument can have shown."""
    if name not in METRICS and not name.endswith(UNIT_SUFFIXES):
        meant = nearest(name, METRICS) or f"; end it in one of {', '.join(UNIT_SUFFIXES)}"
        raise DataError(f"metric '{name}' carries no unit{meant}")
    if not math.isfinite(value):
        raise DataError(f"metric '{name}' is {value}; leave out what was not measured")
    if value < 0 and not name.endswith("_C"):
        raise DataError(f"metric '{name}' is {value:g}; it cannot be negative")
    if value == 0 and name in METRICS and name.endswith(("_s", "_Bps")):
        raise DataError(f"metric '{name}' is 0; leave out what was not measured")


def _worst(flags: object) -> Verdict:
    severities = {flag.severity for flag in flags}  # type: ignore[attr-defined]
    if "impossible" in severities:
        return "impossible"
    return "suspect" if "suspect" in severities else "good"
