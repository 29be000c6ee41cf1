"""Operator rows out of records: what `plumbline profile operators` wrote, as JSON lines.

Both a store's folder and a file of exported records are read. Only unflagged records of operators
count, and of those the ones that a running model would see: cold caches, and CUDA graphs where the
case says how it was launched. The others are counted.
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from analyzer.errors import DataError
from analyzer.records import INPUT_MAJOR, Record
from analyzer.records_codec import decode_record
from analyzer.sources.operator_rows import NUMBERS, TEXT, OperatorRows

STORE_FILE = "records.jsonl"
_LEFT_OUT = {"hot": "rows with a hot cache", "eager": "rows launched one by one on a GPU"}


def read_stored(path: Path, remarks: dict[str, int]) -> OperatorRows:
    """The operator records of a store's folder or of a file of JSON lines."""
    file = path / STORE_FILE if path.is_dir() else path
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read ({error})") from None
    records = [
        _record(line, f"{file}: line {number}", number == len(lines), remarks)
        for number, line in enumerate(lines, 1)
        if line
    ]
    kept = [record for record in records if record is not None and _usable(record, remarks)]
    return _rows(kept, file.stem)


class _StoreLine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a store wraps a record: see profilers/store_file.py."""

    crc32: str
    body: msgspec.Raw


def _record(line: str, where: str, last: bool, remarks: dict[str, int]) -> Record | None:
    """A record as exported, or inside of a store's line; None for the store's own header."""
    if not line.startswith('{"crc32"'):
        return decode_record(line, where)
    try:
        wrapped = msgspec.json.decode(line, type=_StoreLine)
        if f"{zlib.crc32(wrapped.body):08x}" != wrapped.crc32:
            raise DataError(f"{where}: is damaged (its checksum does not match)")
        body = msgspec.json.decode(wrapped.body, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        if last:
            _note(remarks, "lines that were half written")
            return None
        raise DataError(f"{where}: is damaged ({error})") from None
    if "record" not in body:
        return None
    try:
        return msgspec.json.decode(body["record"], type=Record)
    except msgspec.ValidationError as error:
        raise DataError(f"{where}: is not a record ({error})") from None


def _usable(record: Record, remarks: dict[str, int]) -> bool:
    if record.kind != "operator" or "latency_s" not in record.metrics:
        return False
    if record.verdict_on("latency_s") != "good":
        _note(remarks, "rows that carry a doubt")
        return False
    if record.case.get("layout") == INPUT_MAJOR:
        _note(remarks, "products with weights that lie input by input")
        return False
    on_gpu = str(record.environment.get("device", "")).startswith("cuda")
    for column, value in (("cache", "hot"), ("launch", "eager")):
        if record.case.get(column) == value and (column == "cache" or on_gpu):
            _note(remarks, _LEFT_OUT[value])
            return False
    return True


def _note(remarks: dict[str, int], reason: str) -> None:
    remarks[reason] = remarks.get(reason, 0) + 1


def _rows(records: list[Record], source: str) -> OperatorRows:
    text: dict[str, list[str]] = {name: [] for name in TEXT}
    numbers: dict[str, list[float]] = {name: [] for name in NUMBERS}
    for record in records:
        case: dict[str, Any] = _completed(dict(record.case))
        said = {
            "source": source,
            "hardware": record.scenario.hardware,
            "software": record.scenario.engine,
            "kv_dtype": case.get("kv_dtype", case["dtype"]) if "kv_len" in case else "",
            "kernel": case.get("op", "") if case.get("op") in ("norm", "elementwise") else "",
        }
        for name in TEXT:
            text[name].append(str(said.get(name, case.get(name, ""))))
        for name in NUMBERS:
            value = case.get(name)
            numbers[name].append(float(value) if isinstance(value, int | float) else np.nan)
    seconds = [record.metrics["latency_s"] for record in records]
    return OperatorRows(
        {name: np.asarray(column, dtype=str) for name, column in text.items()},
        {name: np.asarray(column, dtype=float) for name, column in numbers.items()},
        np.asarray(seconds, dtype=float),
    )


def _completed(case: dict[str, Any]) -> dict[str, Any]:
    """What the profiles leave out of attention: a decoded token is one, a prompt its own keys."""
    if case.get("op") == "attn_decode":
        return {"q_len": 1, **case}
    if case.get("op") == "attn_prefill":
        return {"kv_len": case["q_len"], **case}
    return case
