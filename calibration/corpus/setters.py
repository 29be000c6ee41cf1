"""One small function per column: what a cell's text does to the record in the making."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from analyzer.errors import ConfigError, DataError, nearest
from analyzer.records import Scalar
from analyzer.records_arrival import Arrival, parse_arrival
from analyzer.strict import TableSource
from calibration.corpus.conversion import Draft, meaning_of
from calibration.corpus.flags import parse_flags
from calibration.corpus.mapping import (
    STANDARD_COLUMNS,
    Column,
    Mapping,
    check_field,
    field_type,
)
from calibration.corpus.units import unit_of

Apply = Callable[[Draft, str, TableSource], None]


class Setter:
    """A column's function and the field that it fills."""

    __slots__ = ("absent", "apply", "field")

    def __init__(self, field: str, absent: tuple[str, ...], apply: Apply) -> None:
        self.field = field
        self.absent = absent
        self.apply = apply

    def __call__(self, draft: Draft, text: str, at: TableSource) -> None:
        text = text.strip()
        if text and text not in self.absent:
            self.apply(draft, text, at)


def compile_columns(
    header: list[str], mapping: Mapping, where: str
) -> tuple[list[tuple[str, Setter]], dict[str, str]]:
    """Setters of a table's columns, and the definition behind each metric."""
    known = {**STANDARD_COLUMNS, **mapping.columns}
    for name in mapping.columns:
        if name not in header:
            raise DataError(f"{where}: column '{name}' is missing{nearest(name, header)}")
    setters: list[tuple[str, Setter]] = []
    definitions: dict[str, str] = {}
    for name in header:
        if name in mapping.ignore:
            continue
        if name not in known:
            hint = nearest(name, known) or f"; declare it, or add it to ignore = ['{name}']"
            raise DataError(f"{where}: nothing says what column '{name}' holds{hint}")
        setters.append((name, _setter(name, known[name], f"{where}: column '{name}'")))
        definitions.update(_definition(name, known[name]))
    _refuse_two_of_a_field(setters, where)
    return setters, definitions


def apply_constants(
    constants: dict[str, Scalar], scenario: dict[str, Any], case: dict[str, Any], where: str
) -> None:
    """Put the mapping's constants into the dicts that every row starts from."""
    draft = Draft(scenario, case)
    at = TableSource(path=f"{where} (constants)", line_no=0)
    for name, value in constants.items():
        kind = field_type(name)
        if kind in (None, "book", "pool"):
            known = [n for n in STANDARD_COLUMNS if field_type(n) not in (None, "book")]
            raise ConfigError(f"{where}: '{name}' cannot be a constant{nearest(name, known)}")
        if isinstance(value, bool) or kind == "free":
            case[name.partition(".")[2]] = value
            continue
        try:
            _setter(name, Column(field=name), where)(draft, str(value), at)
        except DataError as error:
            raise ConfigError(f"{where}: constant '{name}': {error}") from None


def _refuse_two_of_a_field(setters: list[tuple[str, Setter]], where: str) -> None:
    seen: dict[str, str] = {}
    for name, setter in setters:
        if setter.field in ("throughput", "spread"):
            continue
        if setter.field in seen:
            raise DataError(
                f"{where}: columns '{seen[setter.field]}' and '{name}' both give {setter.field}; "
                "keep one"
            )
        seen[setter.field] = name


def _setter(name: str, column: Column, where: str) -> Setter:
    check_field(column.field, where)
    if column.field == "throughput":
        apply = _throughput(name, column, where)
    elif column.field == "spread":
        apply = _spread(name, column, where)
    else:
        kind = field_type(column.field)
        builder = _BUILDERS[kind] if kind else _metric
        apply = builder(name, column, where)
    return Setter(column.field, column.absent, apply)


def _text(name: str, column: Column, where: str) -> Apply:
    def apply(draft: Draft, text: str, at: TableSource) -> None:
        draft.scenario[column.field] = text

    return apply


def _count(name: str, column: Column, where: str) -> Apply:
    def apply(draft: Draft, text: str, at: TableSource) -> None:
        draft.scenario[column.field] = int(at.number(name, text, least=1, whole=True))

    return apply


def _length(name: str, column: Column, where: str) -> Apply:
    def apply(draft: Draft, text: str, at: TableSource) -> None:
        draft.scenario[column.field] = at.number(name, text, least=0)

    return apply


def _concurrency(name: str, column: Column, where: str) -> Apply:
    def apply(draft: Draft, text: str, at: TableSource) -> None:
        draft.scenario[column.field] = at.number(name, text, above=0)

    return apply


def _arrival(name: str, column: Column, where: str) -> Apply:
    def apply(draft: Draft, text: str, at: TableSource) -> None:
        try:
            draft.scenario["arrival"] = _parsed_arrival(text)
        except DataError as error:
            raise at.error(name, str(error)) from None

    return apply


@lru_cache(maxsize=4096)
def _parsed_arrival(text: str) -> Arrival:
    return parse_arrival(text)


def _pool(name: str, column: Column, where: str) -> Apply:
    pool, _, field = column.field.partition(".")

    def apply(draft: Draft, text: str, at: TableSource) -> None:
        value = at.number(name, text, above=0, whole=field != "batch")
        draft.pools.setdefault(pool, {})[field] = value if field == "batch" else int(value)

    return apply


def _book(name: str, column: Column, where: str) -> Apply:
    if column.field == "flags":
        return _flags(name)

    def apply(draft: Draft, text: str, at: TableSource) -> None:
        draft.book[column.field] = text

    return apply


def _flags(name: str) -> Apply:
    def apply(draft: Draft, text: str, at: TableSource) -> None:
        try:
            draft.flags.extend(parse_flags(text))
        except DataError as error:
            raise at.error(name, str(error)) from None

    return apply


def _free(name: str, column: Column, where: str) -> Apply:
    head, _, key = column.field.partition(".")

    def apply(draft: Draft, text: str, at: TableSource) -> None:
        values = draft.case if head == "case" else draft.environment
        values[key] = at.number(name, text) if column.unit else text

    return apply


def _metric(name: str, column: Column, where: str) -> Apply:
    unit = unit_of(column.field, column.unit, where)

    def apply(draft: Draft, text: str, at: TableSource) -> None:
        draft.metrics[column.field] = unit.to_si(at.number(name, text, above=0))

    return apply


def _throughput(name: str, column: Column, where: str) -> Apply:
    meaning_of(column, where)
    unit = unit_of("_tok_s", column.unit, where)

    def apply(draft: Draft, text: str, at: TableSource) -> None:
        draft.rates.append((column, name, unit.to_si(at.number(name, text, above=0))))

    return apply


def _spread(name: str, column: Column, where: str) -> Apply:
    if not column.of or not column.statistic:
        raise ConfigError(f"{where}: a spread needs 'of' (the metric) and 'statistic'")
    unit = unit_of(column.of, column.unit, where)

    def apply(draft: Draft, text: str, at: TableSource) -> None:
        value = unit.to_si(at.number(name, text, least=0))
        draft.spread.setdefault(column.of, {})[column.statistic] = value

    return apply


_BUILDERS: dict[str, Callable[[str, Column, str], Apply]] = {
    "text": _text,
    "count": _count,
    "length": _length,
    "concurrency": _concurrency,
    "arrival": _arrival,
    "pool": _pool,
    "book": _book,
    "free": _free,
}


def _definition(name: str, column: Column) -> dict[str, str]:
    if column.field == "throughput":
        meaning = meaning_of(column, name)
        what = f"{column.counts} tokens over {column.over} time per {column.per}"
        said = column.definition or f"published as {column.unit}: {what}"
        return {meaning.metric: said}
    if field_type(column.field) or column.field == "spread":
        return {}
    said = column.definition or f"published in {column.unit}"
    return {column.field: f"{column.statistic} {said}".strip()}
