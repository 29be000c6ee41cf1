"""Small tables for the tests of ingestion, and what must become of them."""

from __future__ import annotations

from collections.abc import Mapping as Map
from pathlib import Path
from typing import Any

from analyzer.records import Record
from calibration.corpus.mapping import Column, Mapping
from calibration.corpus.reading import Reader, read_table

STATIC: dict[str, Any] = {
    "hardware": "H100-SXM",
    "model": "llama",
    "engine": "vLLM",
    "tp": 2,
    "gpus": 2,
    "concurrency": 8,
    "input_tokens": 100,
    "output_tokens": 50,
    "arrival": "static batch",
}


def write_table(folder: Path, header: str, *rows: str, name: str = "t.csv") -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def read_one(
    folder: Path, figures: Map[str, str], columns: Map[str, Column], **constants: Any
) -> Record:
    """The record of a one-row table; constants of None are left out."""
    path = write_table(folder, ",".join(figures), ",".join(figures.values()))
    merged = {**STATIC, **constants}
    kept = {name: value for name, value in merged.items() if value is not None}
    mapping = Mapping(constants=kept, columns=dict(columns))
    return read_table(path, mapping, Reader())[0]
