"""Records as columns, for code that works on all of them at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analyzer.records import Record
from analyzer.records_engine import engine_class

_TEXTS = (
    "hardware",
    "model",
    "engine",
    "engine_version",
    "weight_precision",
    "kv_precision",
    "variant",
    "speculative",
)
_NUMBERS = (
    "gpus",
    "tp",
    "pp",
    "ep",
    "attention_dp",
    "moe_tp",
    "moe_ep",
    "concurrency",
    "input_tokens",
    "output_tokens",
)

Column = NDArray[Any]


def columns(records: Iterable[Record], metrics: Sequence[str]) -> dict[str, Column]:
    """Scenario fields, the metrics asked for, source and engine class, one array each.

    Numbers that are not stated are NaN (never 0), texts are ''.
    """
    rows = list(records)
    table: dict[str, Column] = {
        name: _texts(getattr(row.scenario, name) for row in rows) for name in _TEXTS
    }
    for name in _NUMBERS:
        table[name] = _numbers(getattr(row.scenario, name) for row in rows)
    for metric in metrics:
        table[metric] = _numbers(row.metrics.get(metric) for row in rows)
    table["arrival"] = _texts(
        row.scenario.arrival.kind if row.scenario.arrival else "" for row in rows
    )
    table["source"] = _texts(row.provenance.source for row in rows)
    table["engine_class"] = _texts(engine_class_of(row) for row in rows)
    return table


def engine_class_of(record: Record) -> str:
    """The engine class of a record, by its engine's name, version and the figure's date."""
    scenario = record.scenario
    return engine_class(scenario.engine, scenario.engine_version, record.provenance.date)


def _texts(values: Iterable[str]) -> Column:
    return np.array(list(values), dtype=object)


def _numbers(values: Iterable[float | None]) -> Column:
    return np.array([np.nan if value is None else value for value in values], dtype=float)
