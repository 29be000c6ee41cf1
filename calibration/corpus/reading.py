"""Reading one table into records, by its mapping.

The mapping is compiled once per file into one setter per column; a row is then a pass over its
cells. Whatever cannot be read raises DataError naming file, row, column and remedy: no row is
skipped and no cell is guessed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import ConfigError, DataError, InputError
from analyzer.records import Flag, Pool, Provenance, Record, Scenario
from analyzer.strict import TableSource, read_csv_rows
from calibration.corpus.checks import check_row, check_table, place_in_table
from calibration.corpus.conversion import Draft, apply_rates
from calibration.corpus.mapping import Document, Mapping, Rule, Source
from calibration.corpus.setters import Setter, apply_constants, compile_columns

NameCheck = Callable[[str], object]
"""Raises an InputError for a name it does not know."""

_STANDS_FOR_FIGURES = {"outcome", "claim"}
"""A row may say how a run ended, or what was claimed of it, in place of a figure."""


class Reader(msgspec.Struct, frozen=True, kw_only=True):
    """How tables are read: what is asked of names, and what becomes of repeated rows."""

    check_hardware: NameCheck | None = None
    check_model: NameCheck | None = None
    refuse_duplicates: bool = False
    """True: a row that repeats another is an error; False: it is flagged."""


def read_table(
    path: str | Path,
    mapping: Mapping,
    reader: Reader = Reader(),  # noqa: B008
) -> list[Record]:
    """All rows of one CSV as records, checked."""
    where = str(path)
    table = _Table(where, mapping, reader)
    records: list[Record] = []
    lines: list[int] = []
    for line_no, row in read_csv_rows(path, delimiter=mapping.delimiter):
        records.append(table.record(line_no, row))
        lines.append(line_no)
    return check_table(records, lines, where, refuse_duplicates=reader.refuse_duplicates)


class _Table:
    """One file's mapping, compiled when its first row shows the columns."""

    def __init__(self, where: str, mapping: Mapping, reader: Reader) -> None:
        self.where = where
        self.mapping = mapping
        self.base_scenario: dict[str, Any] = {}
        self.base_case: dict[str, Any] = {}
        apply_constants(mapping.constants, self.base_scenario, self.base_case, where)
        self.setters: list[tuple[str, Setter]] = []
        self.definitions: dict[str, str] = {}
        self.names = {"hardware": reader.check_hardware, "model": reader.check_model}
        self.names_seen: set[tuple[str, str]] = set()
        self.width = -1

    def record(self, line_no: int, row: dict[str, str]) -> Record:
        if self.width < 0:
            self._compile(list(row))
        at = TableSource(path=self.where, line_no=line_no)
        draft = Draft(dict(self.base_scenario), dict(self.base_case))
        for name, setter in self.setters:
            text = row[name]
            if text:
                setter(draft, text, at)
        for rule in self.mapping.rules:
            self._apply_rule(rule, draft, row)
        self._check_names(draft, at)
        apply_rates(draft, lambda problem: at.error("gpus", problem))
        return check_row(self._finished(draft, at), same_runs=self.mapping.same_runs)

    def _compile(self, header: list[str]) -> None:
        self.width = len(header)
        self.setters, self.definitions = compile_columns(header, self.mapping, self.where)
        fields = {*self.base_scenario, *(setter.field for _, setter in self.setters)}
        if self.mapping.kind in ("e2e", "serving") and "arrival" not in fields:
            raise ConfigError(
                f"{self.where}: nothing says how requests arrive; add the constant "
                "arrival = 'static batch', 'single request' or 'closed-loop concurrency'"
            )

    def _apply_rule(self, rule: Rule, draft: Draft, row: dict[str, str]) -> None:
        for column, wanted in rule.when.items():
            text = row.get(column)
            if text is None:
                text = str(self.mapping.constants.get(column, ""))
            if text != wanted and not (isinstance(wanted, tuple) and text in wanted):
                return
        draft.scenario.update(rule.set)
        if rule.flag:
            draft.flags.append(_flag_of(rule))

    def _check_names(self, draft: Draft, at: TableSource) -> None:
        for field, check in self.names.items():
            name = draft.scenario.get(field, "")
            if check is None or not name or (field, name) in self.names_seen:
                continue
            try:
                check(name)
            except InputError as error:
                raise at.error(field, str(error)) from None
            self.names_seen.add((field, name))

    def _finished(self, draft: Draft, at: TableSource) -> Record:
        pools: dict[str, Any] = {name: Pool(**fields) for name, fields in draft.pools.items()}
        book = draft.book
        repeats = book.get("repeats")
        if book.get("note"):
            draft.flags.append(Flag(code="remark", reason=book["note"], severity="note"))
        if not draft.metrics and not _STANDS_FOR_FIGURES & draft.case.keys():
            raise at.error(
                next(iter(self.definitions), "metrics"), "no figure in the whole row; remove it"
            )
        try:
            return Record(
                kind=self.mapping.kind,
                metrics=draft.metrics,
                provenance=self._provenance(book, at),
                scenario=Scenario(**draft.scenario, **pools),
                case=draft.case,
                spread=draft.spread,
                repeats=int(at.number("repeats", repeats, least=1, whole=True))
                if repeats
                else None,
                derived=tuple(draft.derived),
                flags=tuple(draft.flags),
                environment=draft.environment,
            )
        except DataError as error:
            raise DataError(f"{at.path}: row at line {at.line_no}: {error}") from None

    def _provenance(self, book: dict[str, str], at: TableSource) -> Provenance:
        key = book.get("document", "")
        document = _document_of(self.mapping, key)
        if document is None:
            raise at.error("document", f"'{key}' is not among the source's documents")
        source = self.mapping if isinstance(self.mapping, Source) else None
        return Provenance(
            source=source.name if source else (self.mapping.title or Path(self.where).stem),
            document=document.name,
            place=book.get("place") or place_in_table(self.where, at.line_no),
            licence=source.licence if source else "",
            date=document.date or self.mapping.date,
            commit=document.commit,
            definitions=self.definitions,
        )


def _document_of(mapping: Mapping, key: str) -> Document | None:
    documents = mapping.documents if isinstance(mapping, Source) else {}
    if not documents:
        return Document(name=key)
    if not key and len(documents) == 1:
        return next(iter(documents.values()))
    return documents.get(key)


def _flag_of(rule: Rule) -> Flag:
    return Flag(code=rule.flag, reason=rule.reason, severity=rule.severity, metrics=rule.metrics)
