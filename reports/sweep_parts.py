"""A sweep in pieces: each piece is a file that follows from the sweep's description alone.

Pieces are written whole (temporary file, sync, rename) beside the result, wherever and in whatever
order they were worked out; the result is their concatenation, made at the end in one rename. So a
sweep that is killed at any moment goes on with the pieces that are missing and ends with the same
bytes.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from analyzer.designs import Design
from analyzer.errors import ConfigError
from analyzer.sweep import METRICS
from analyzer.sweep_points import Fixed, chooser, predict_points

PIECE = 65_536
"""Points of one piece, where nothing else is said: some 8 MB of CSV, a second's work."""
FORMS = (".csv", ".parquet")
_TITLES = {"s": ("_ms", 1e3), "B": ("_gb", 1e-9)}


class Sweep(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a piece follows from."""

    design: Design
    engine: str
    arrival: str
    given: str
    """Rates that were named: '', 'uncalibrated', 'ideal', 'eff=0.6' or a file."""
    form: str
    """'.csv' or '.parquet'."""
    rates: str = ""
    """Hash of all rates in use: other rates make another sweep."""
    piece: int = PIECE
    """Points of one piece."""

    @property
    def pieces(self) -> int:
        """How many pieces there are."""
        return -(-len(self.design) // self.piece)

    def described(self) -> bytes:
        """Its spelling; the order of the axes is part of the design."""
        return msgspec.json.encode(self)


class Kept(NamedTuple):
    """What one piece held."""

    points: int
    fit: int


def rates_hash(sweep: Sweep) -> str:
    """All rates that the sweep's systems are timed with."""
    from analyzer.systems_catalog import load_system

    choose = chooser(sweep.engine, sweep.arrival, sweep.given)
    systems = sweep.design.axes["system"]
    held = [msgspec.to_builtins(choose(load_system(name)).rates) for name in systems]
    return hashlib.sha256(msgspec.json.encode(held)).hexdigest()[:16]


def columns_of(sweep: Sweep, piece: int) -> dict[str, Any]:
    """The columns of one piece."""
    points = sweep.design.at(piece * sweep.piece, (piece + 1) * sweep.piece)
    choose = chooser(sweep.engine, sweep.arrival, sweep.given)
    found = predict_points(points, Fixed(sweep.engine, sweep.arrival, choose))
    titled = {_title(name): found[name] * _factor(name) for name in METRICS}
    return {**points, **titled, "fits": np.isfinite(found["ttft_s"])}


def encoded(sweep: Sweep, piece: int) -> tuple[bytes, Kept]:
    """One piece as the bytes of its file."""
    columns = columns_of(sweep, piece)
    kept = Kept(len(columns["fits"]), int(columns["fits"].sum()))
    data = _csv(columns) if sweep.form == ".csv" else _parquet(columns)
    return data, kept


def _title(name: str) -> str:
    if name.endswith("tok_s"):
        return name
    stem, _, unit = name.rpartition("_")
    return f"{stem}{_TITLES[unit][0]}"


def _factor(name: str) -> float:
    return 1.0 if name.endswith("tok_s") else _TITLES[name.rpartition("_")[2]][1]


def _csv(columns: dict[str, Any]) -> bytes:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(_rows(columns))
    return stream.getvalue().encode()


def _rows(columns: dict[str, Any]) -> Iterator[tuple[object, ...]]:
    cells = []
    for name, values in columns.items():
        plain = values.tolist()
        if name == "fits":
            cells.append(["yes" if fits else "no" for fits in plain])
        elif values.dtype.kind == "f":
            cells.append([f"{value:.7g}" if value == value else "" for value in plain])
        else:
            cells.append(plain)
    return zip(*cells, strict=True)


def _parquet(columns: dict[str, Any]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stream = io.BytesIO()
    pq.write_table(pa.table(columns), stream, compression="zstd")
    return stream.getvalue()


class Folder:
    """The pieces of one result, beside it."""

    def __init__(self, out: Path, sweep: Sweep) -> None:
        self._out, self._sweep = out, sweep
        self.path = out.with_name(f"{out.name}.parts")

    def open(self) -> list[int]:
        """Make it, or go on with it; the pieces that are missing."""
        described = self._sweep.described()
        try:
            self.path.mkdir(parents=False, exist_ok=True)
            note = self.path / "sweep.json"
            if not note.exists():
                self._put(note, described)
            elif note.read_bytes() != described:
                raise ConfigError(
                    f"{self.path}: belongs to another sweep, or to other rates; delete it, or "
                    "choose another --out"
                )
            have = {path.name for path in self.path.iterdir()}
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot be written: {error.strerror}") from None
        return [n for n in range(self._sweep.pieces) if self._file(n).name not in have]

    def keep(self, piece: int, data: bytes) -> None:
        """Write one piece, whole or not at all."""
        self._put(self._file(piece), data)

    def join(self) -> None:
        """All pieces as the result, then remove them."""
        files = [self._file(piece) for piece in range(self._sweep.pieces)]
        temporary = self.path / "whole.tmp"
        if self._sweep.form == ".csv":
            _join_csv(self._sweep, files, temporary)
        else:
            _join_parquet(files, temporary)
        temporary.replace(self._out)
        _sync_folder(self._out.parent)
        shutil.rmtree(self.path)

    def _file(self, piece: int) -> Path:
        return self.path / f"{piece:08d}{self._sweep.form}"

    def _put(self, path: Path, data: bytes) -> None:
        temporary = path.with_suffix(".tmp")
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)


def _join_csv(sweep: Sweep, files: list[Path], into: Path) -> None:
    titles = [*sweep.design.axes, *(_title(name) for name in METRICS), "fits"]
    with open(into, "wb") as whole:
        whole.write((",".join(titles) + "\n").encode())
        for path in files:
            with open(path, "rb") as part:
                shutil.copyfileobj(part, whole, 1 << 20)
        whole.flush()
        os.fsync(whole.fileno())


def _join_parquet(files: list[Path], into: Path) -> None:
    import pyarrow.parquet as pq

    first = pq.read_table(files[0])
    with pq.ParquetWriter(into, first.schema, compression="zstd") as writer:
        for path in files:
            writer.write_table(pq.read_table(path))
    with open(into, "rb+") as whole:
        os.fsync(whole.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
