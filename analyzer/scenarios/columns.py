"""Columns of a table of scenarios: which shape a group, which are numbers that vary inside one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from analyzer import precision
from analyzer.errors import DataError, InputError
from analyzer.records import Pool, Scenario
from analyzer.records_arrival import parse_arrival
from analyzer.strict_csv import TableSource

TEXTS = ("hardware", "model", "engine", "engine_version", "weight_precision", "kv_precision")
FORMATS = ("weight_precision", "kv_precision")
COUNTS = ("gpus", "tp", "pp", "ep", "attention_dp", "moe_tp", "moe_ep")
POOLED = ("workers", "batch", "tp", "pp", "attention_dp", "moe_tp", "moe_ep")
POOLS = ("prefill", "decode")
BOOK = ("arrival", "source", "date")
STRUCTURE = (
    *TEXTS,
    *COUNTS,
    *BOOK,
    *(f"{pool}_{name}" for pool in POOLS for name in POOLED),
)
"""Columns in which the rows of a group agree."""
REQUIRED = ("hardware", "model", "input_tokens", "output_tokens")
BATCHES = ("batch_or_concurrency", "batch", "concurrency")
"""Names of the one column that says how many sequences there are."""
NUMBERS = ("batch", "input_tokens", "output_tokens")

_DIGITS = re.compile(r"\d{1,15}(\.\d{1,15})?", re.ASCII)
"""What most numbers look like; the others are read with more care."""

Key = tuple[str, ...]


class Load(NamedTuple):
    """The numbers of one row, NaN where not stated; or what is wrong with them."""

    batch: float
    input_tokens: float
    output_tokens: float
    problem: str = ""


class Reader:
    """What the columns of one table mean."""

    def __init__(self, path: str, header: Sequence[str]) -> None:
        self.path = path
        self.structure = [name for name in STRUCTURE if name in header]
        self.key: Callable[[dict[str, str]], Any] = itemgetter(*self.structure)
        counted = [name for name in BATCHES if name in header]
        if len(counted) > 1:
            raise DataError(f"{path}: columns {' and '.join(counted)} both say how many; keep one")
        self.columns = (counted[0] if counted else "", "input_tokens", "output_tokens")

    def load(self, line_no: int, row: dict[str, str]) -> Load:
        """Batch and lengths of a row."""
        try:
            batch, prompt, answer = (self._number(line_no, name, row) for name in self.columns)
        except DataError as error:
            return Load(math.nan, math.nan, math.nan, _without_path(error, self.path))
        return Load(batch, prompt, answer)

    def _number(self, line_no: int, name: str, row: dict[str, str]) -> float:
        text = row.get(name, "")
        if _DIGITS.fullmatch(text):
            return float(text)
        if not text or text.isspace():
            return math.nan
        return TableSource(path=self.path, line_no=line_no).number(name, text, least=0)

    def scenario(self, key: Key) -> Scenario:
        """The scenario that the rows of a group share; InputError names the column."""
        cells = {name: text.strip() for name, text in zip(self.structure, key, strict=True) if text}
        stated = {name: cells[name] for name in TEXTS if cells.get(name)}
        stated |= {name: precision.stated(stated[name]) for name in FORMATS if name in stated}
        counts = {name: _whole(name, cells[name]) for name in COUNTS if cells.get(name)}
        arrival = parse_arrival(cells["arrival"]) if cells.get("arrival") else None
        pools = {f"{pool}_pool": _pool(pool, cells) for pool in POOLS}
        return Scenario(**stated, **counts, **pools, arrival=arrival)  # type: ignore[arg-type]

    def cell(self, key: Key, name: str) -> str:
        """One structural cell; '' where there is no such column."""
        return key[self.structure.index(name)].strip() if name in self.structure else ""


def _pool(pool: str, cells: dict[str, str]) -> Pool | None:
    given = {name: cells.get(f"{pool}_{name}", "") for name in POOLED}
    values = {
        name: _number(f"{pool}_{name}", text) if name == "batch" else _whole(f"{pool}_{name}", text)
        for name, text in given.items()
        if text
    }
    return Pool(**values) if values else None  # type: ignore[arg-type]


def _whole(name: str, text: str) -> int:
    value = _number(name, text)
    if value < 1 or value != int(value):
        raise InputError(f"column '{name}': {text} is not a whole number above 0")
    return int(value)


def _number(name: str, text: str) -> float:
    try:
        return TableSource(path="", line_no=0).number(name, text, above=0)
    except DataError as error:
        said = str(error).partition("': ")[2]
        raise InputError(f"column '{name}': {said}") from None


def _without_path(error: DataError, path: str) -> str:
    """The file is known to whoever reads its rows."""
    text = str(error).removeprefix(f"{path}: ")
    return text.partition(", ")[2] if text.startswith("row at line") else text
