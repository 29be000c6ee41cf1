"""What a table's columns mean: the declaration that stands between a source and the corpus.

Sources define "throughput" in at least five ways and "memory" in four. A mapping says, column by
column, what the source's figure is; code does the rest, so that no figure is converted by hand. The
same TOML shape describes our own sources (SOURCE.toml) and a user's CSV (mapping.toml).
"""

from __future__ import annotations

from typing import Literal

import msgspec

from analyzer.errors import ConfigError, nearest
from analyzer.records import METRICS, UNIT_SUFFIXES, Kind, Pool, Scalar, Scenario, Severity


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the declarations: immutable and strict."""


class Column(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one column holds."""

    field: str
    """A metric (`ttft_s`), `throughput`, `spread`, a scenario field (`tp`, `prefill_pool.tp`),
    `case.<name>`, `environment.<name>`, `document`, `place`, `flags`, `note` or `repeats`."""
    unit: str = ""
    counts: Literal["", "input", "output", "input+output"] = ""
    """Throughput only: which tokens are counted."""
    over: Literal["", "prefill", "decode", "request"] = ""
    """Throughput only: which time they are divided by; `request` is prefill and decode together."""
    per: Literal["system", "gpu", "sequence"] = "system"
    """Throughput and power: of the whole system, of one device, or of one sequence."""
    prompt_is_a_step: bool = False
    """Throughput over the request only: the prompt is so short that its prefill costs what one
    decode step costs, so that the mean time per token is the TPOT."""
    of: str = ""
    """Spread only: the metric that it is the spread of."""
    statistic: str = ""
    """mean, median, p99, sd, …; free for metrics, needed for spread."""
    definition: str = ""
    """What the source means by the figure, in words."""
    absent: tuple[str, ...] = ()
    """Texts that mean 'not measured', beside the empty cell."""


class Rule(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that holds for the rows whose cells are as `when` says."""

    when: dict[str, str | tuple[str, ...]]
    """Column or constant → text, or texts, that it must equal."""
    set: dict[str, Scalar] = {}
    """Scenario fields to overrule, for columns that do not mean what they are called."""
    flag: str = ""
    severity: Severity = "suspect"
    metrics: tuple[str, ...] = ()
    """Metrics that the flag concerns; empty: all."""
    reason: str = ""


class Mapping(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to read one table into records."""

    title: str = ""
    kind: Kind = "e2e"
    date: str = ""
    constants: dict[str, Scalar] = {}
    """Scenario fields (or `case.<name>`) that are the same in every row."""
    columns: dict[str, Column] = {}
    ignore: tuple[str, ...] = ()
    """Columns that are left unread on purpose."""
    rules: tuple[Rule, ...] = ()
    delimiter: str = ","
    same_runs: bool = True
    """False where TTFT, TPOT and E2E are not of the same runs (medians taken one by one)."""


class Document(_Strict, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One page or file of a source, at one commit."""

    name: str
    commit: str = ""
    date: str = ""


class Source(Mapping, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SOURCE.toml: who measured what and how, beside how to read it."""

    name: str
    url: str
    licence: str
    citation: str
    measured: str
    """How the source measured, in our words."""
    throughput: str = ""
    """What the published throughput means."""
    caveats: tuple[str, ...] = ()
    documents: dict[str, Document] = {}
    models: dict[str, dict[str, Scalar]] = {}
    """Sizes of models that have no public configuration, as the source states them."""


_TEXT_FIELDS = (
    "hardware",
    "model",
    "engine",
    "engine_version",
    "weight_precision",
    "kv_precision",
    "variant",
    "speculative",
)
_COUNT_FIELDS = ("gpus", "tp", "pp", "ep", "attention_dp", "moe_tp", "moe_ep")
_LENGTH_FIELDS = ("input_tokens", "output_tokens")
_BOOK_FIELDS = ("document", "place", "flags", "note", "repeats")
POOL_FIELDS = tuple(field.name for field in msgspec.structs.fields(Pool))
SCENARIO_FIELDS = tuple(field.name for field in msgspec.structs.fields(Scenario))

FieldType = Literal["text", "count", "length", "concurrency", "arrival", "pool", "book", "free"]


def field_type(field: str) -> FieldType | None:
    """How a non-metric field is read; None where it must be a metric."""
    head, _, tail = field.partition(".")
    if head in ("prefill_pool", "decode_pool"):
        return "pool" if tail in POOL_FIELDS else None
    if head in ("case", "environment") and tail:
        return "free"
    for kind, names in _FIELD_TYPES.items():
        if field in names:
            return kind
    return None


_FIELD_TYPES: dict[FieldType, tuple[str, ...]] = {
    "text": _TEXT_FIELDS,
    "count": _COUNT_FIELDS,
    "length": _LENGTH_FIELDS,
    "concurrency": ("concurrency",),
    "arrival": ("arrival",),
    "book": _BOOK_FIELDS,
}


def known_fields() -> list[str]:
    """Every field that a column may hold, for near misses."""
    pools = [f"{pool}.{name}" for pool in ("prefill_pool", "decode_pool") for name in POOL_FIELDS]
    named = [name for names in _FIELD_TYPES.values() for name in names]
    return [*METRICS, *named, *pools, "throughput", "spread", "case.NAME", "environment.NAME"]


def check_field(field: str, where: str) -> None:
    """Refuse a field that is neither a scenario field nor a metric with its unit."""
    if field in ("throughput", "spread") or field_type(field) or field in METRICS:
        return
    if field.endswith(UNIT_SUFFIXES) and "." not in field:
        return
    raise ConfigError(f"{where}: unknown field '{field}'{nearest(field, known_fields())}")


STANDARD_COLUMNS: dict[str, Column] = {
    **{name: Column(field=name) for name in (*_TEXT_FIELDS, *_COUNT_FIELDS, *_LENGTH_FIELDS)},
    **{name: Column(field=name) for name in (*_BOOK_FIELDS, "arrival", "concurrency")},
    "batch_or_concurrency": Column(field="concurrency"),
    "batch": Column(field="concurrency"),
    **{
        f"{pool}_{name}": Column(field=f"{pool}_pool.{name}")
        for pool in ("prefill", "decode")
        for name in POOL_FIELDS
    },
    "ttft_ms": Column(field="ttft_s", unit="ms"),
    "tpot_ms": Column(field="tpot_s", unit="ms"),
    "e2e_ms": Column(field="e2e_s", unit="ms"),
    "prefill_tok_s": Column(field="throughput", unit="tok/s", counts="input", over="prefill"),
    "decode_tok_s": Column(field="throughput", unit="tok/s", counts="output", over="decode"),
    "output_tok_s": Column(field="throughput", unit="tok/s", counts="output", over="request"),
    "total_tok_s": Column(field="throughput", unit="tok/s", counts="input+output", over="request"),
    "peak_mem_gb": Column(field="peak_mem_B", unit="GB"),
    "peak_mem_gib": Column(field="peak_mem_B", unit="GiB"),
    "pool_gb": Column(field="pool_B", unit="GB"),
    "power_w": Column(field="power_W", unit="W"),
    "energy_j_per_token": Column(field="energy_J_per_token", unit="J/tok"),
}
"""Columns that need no declaration because their names say what they hold."""
