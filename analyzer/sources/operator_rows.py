"""Measured operator times as columns: what shape, on what, with which software, how many seconds.

Read from CSV files (plain or .gz). Notes such as `fw=vllm;kv=fp8;tp=8` are taken apart, so that
like is only ever compared with like.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from analyzer.strict_csv import TableSource, read_csv_rows

Array = NDArray[np.float64]

TEXT = ("source", "hardware", "op", "dtype", "software", "kv_dtype", "routing", "kernel", "cache")
NUMBERS = (
    "m", "n", "k", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim",
    "num_tokens", "experts", "topk", "hidden", "inter", "bytes", "gpus", "tp", "ep",
)  # fmt: skip
_NOTE = re.compile(r"(?:^|;)([a-z]+)=([^;]*)")
_WHERE_NOTED = {"kv": "kv_dtype", "dist": "routing", "tp": "tp", "ep": "ep"}


@dataclass(frozen=True)
class OperatorRows:
    """Columns of equal length; a number that does not apply is NaN, a text is ''."""

    text: dict[str, NDArray[np.str_]]
    numbers: dict[str, Array]
    seconds: Array

    def __len__(self) -> int:
        return len(self.seconds)

    def take(self, which: NDArray[np.intp] | NDArray[np.bool_]) -> OperatorRows:
        """The rows at these positions, or where true."""
        text = {name: column[which] for name, column in self.text.items()}
        numbers = {name: column[which] for name, column in self.numbers.items()}
        return OperatorRows(text, numbers, self.seconds[which])

    def where(self, **wanted: str) -> OperatorRows:
        """The rows whose text columns say this."""
        keep = np.ones(len(self), dtype=bool)
        for column, value in wanted.items():
            keep &= self.text[column] == value
        return self.take(keep)

    def number(self, name: str, default: float = np.nan) -> Array:
        """A column of numbers, with `default` where it does not apply."""
        column = self.numbers[name]
        filled: Array = np.where(np.isnan(column), default, column)
        return filled


def read_operator_rows(
    paths: Iterable[str | Path], wanted: Callable[[str], bool] | None = None
) -> OperatorRows:
    """All rows of these files, or of `wanted` hardware only; a wrong cell is a DataError that names
    file, row and column."""
    text: dict[str, list[str]] = {name: [] for name in TEXT}
    numbers: dict[str, list[float]] = {name: [] for name in NUMBERS}
    seconds: list[float] = []
    for path in paths:
        for line_no, row in read_csv_rows(path, required=("hardware", "op", "dtype")):
            if wanted is not None and not wanted(row["hardware"]):
                continue
            at = TableSource(path=str(path), line_no=line_no)
            row.setdefault("source", _stem(path))
            _take_row(row, at, text, numbers)
            seconds.append(_seconds(row, at))
    return OperatorRows(
        {name: np.asarray(column, dtype=str) for name, column in text.items()},
        {name: np.asarray(column, dtype=float) for name, column in numbers.items()},
        np.asarray(seconds, dtype=float),
    )


def joined(parts: Sequence[OperatorRows]) -> OperatorRows:
    """The rows of several files, one after the other."""
    return OperatorRows(
        {name: np.concatenate([part.text[name] for part in parts]) for name in TEXT},
        {name: np.concatenate([part.numbers[name] for part in parts]) for name in NUMBERS},
        np.concatenate([part.seconds for part in parts]),
    )


def _stem(path: str | Path) -> str:
    return Path(path).name.partition(".")[0]


def _seconds(row: Mapping[str, str], at: TableSource) -> float:
    if row.get("latency_s"):
        return at.number("latency_s", row["latency_s"], above=0.0)
    return 1e-6 * at.number("latency_us", row.get("latency_us", ""), above=0.0)


def _take_row(
    row: Mapping[str, str],
    at: TableSource,
    text: dict[str, list[str]],
    numbers: dict[str, list[float]],
) -> None:
    notes = row.get("notes") or row.get("variant", "")
    noted = {_WHERE_NOTED.get(key, key): value for key, value in _NOTE.findall(notes)}
    for name in TEXT:
        text[name].append(row.get(name) or _noted_text(name, noted, row, notes))
    for name in NUMBERS:
        cell = row.get(name) or noted.get(name, "")
        numbers[name].append(at.number(name, cell, least=0.0) if cell else np.nan)


def _noted_text(name: str, noted: Mapping[str, str], row: Mapping[str, str], notes: str) -> str:
    if name == "software":
        return _software(noted, row, notes)
    if name == "kernel":
        return _kernel(notes) if row["op"] in ("norm", "elementwise") else ""
    return noted.get(name, "")


def _software(noted: Mapping[str, str], row: Mapping[str, str], notes: str) -> str:
    framework = noted.get("fw", "")
    if framework and row["op"] in ("attn_decode", "attn_prefill", "moe") and noted.get("ks"):
        return f"{framework}/{noted['ks']}"
    if framework:
        return framework
    version = re.match(r"v\d", notes)
    return f"{row.get('source', '')} {version.group()}" if version else row.get("source", "")


def _kernel(notes: str) -> str:
    for part in notes.split(";"):
        if "=" not in part and not re.match(r"v\d", part):
            return part.strip()
    return ""
