"""The whole corpus: every folder with a SOURCE.toml, every table in it, every row.

A table's name is the system that it was measured on; SOURCE.toml says the rest.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from analyzer.errors import DataError, InputError
from analyzer.records import Kind, Record
from analyzer.strict import decode_toml
from analyzer.systems_catalog import load_system
from calibration.corpus.mapping import Source
from calibration.corpus.reading import Reader, read_table

SOURCE_FILE = "SOURCE.toml"
OPERATORS_FILE = "OPERATORS.toml"
ROOT = Path(__file__).resolve().parents[2]
PERF_DIR = ROOT / "benchmark-perf"
MEM_DIR = ROOT / "benchmark-mem"


class Corpus(msgspec.Struct, frozen=True, kw_only=True):
    """Records in a fixed order, and the sources they are from."""

    records: tuple[Record, ...]
    sources: dict[str, Source]

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def of_kind(self, *kinds: Kind) -> Corpus:
        """Only the records of these kinds."""
        return self.keeping(record for record in self.records if record.kind in kinds)

    def of_source(self, *names: str) -> Corpus:
        """Only the records of these sources."""
        return self.keeping(r for r in self.records if r.provenance.source in names)

    def keeping(self, records: Iterator[Record] | tuple[Record, ...] | list[Record]) -> Corpus:
        """The same sources with other records."""
        return Corpus(records=tuple(records), sources=self.sources)


def load_corpus(
    folder: str | Path = PERF_DIR, reader: Reader | None = None, only: str = ""
) -> Corpus:
    """Every record below `folder`; raises an InputError naming file, row and column.

    `only` leaves out tables that, by their names, are of another system than this one; records of
    others may remain.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"{folder}: is not a folder")
    records: list[Record] = []
    sources: dict[str, Source] = {}
    for declaration in sorted(root.rglob(SOURCE_FILE)):
        source = decode_toml(declaration, Source)
        if source.name in sources:
            raise DataError(f"{declaration}: source '{source.name}' is there twice")
        sources[source.name] = source
        for table in tables_of(declaration.parent):
            mapping = _at_system(source, table)
            if only and mapping is not source and not _same(_system_of(table), only):
                continue
            records.extend(read_table(table, mapping, reader or Reader()))
    if not sources:
        raise DataError(f"{folder}: holds no {SOURCE_FILE}; a corpus has one per source")
    _refuse_orphans(root)
    return Corpus(records=tuple(records), sources=sources)


def tables_of(folder: Path) -> list[Path]:
    """The tables of one source, in a fixed order."""
    return sorted(p for p in folder.iterdir() if p.name.endswith((".csv", ".csv.gz")))


def _at_system(source: Source, table: Path) -> Source:
    """The source's mapping with the table's system as a constant, unless a column gives it."""
    columns = {column.field for column in source.columns.values()}
    if "hardware" in source.constants or "hardware" in columns:
        return source
    system = _system_of(table)
    return msgspec.structs.replace(source, constants={**source.constants, "hardware": system})


def _system_of(table: Path) -> str:
    return table.name.removesuffix(".gz").removesuffix(".csv")


def _same(written: str, system: str) -> bool:
    try:
        return load_system(written).name == system
    except InputError:
        return False


def _refuse_orphans(root: Path) -> None:
    """A table that no SOURCE.toml speaks for is an error, not a table that is not there."""
    for table in sorted([*root.rglob("*.csv"), *root.rglob("*.csv.gz")]):
        declared = (table.parent / SOURCE_FILE).exists()
        if not declared and not (table.parent / OPERATORS_FILE).exists():
            raise DataError(f"{table}: no {SOURCE_FILE} beside it says whose figures these are")
