"""Kernel, link and collective timings as columns: a hundred thousand rows are no records.

One compressed table per source lies beside OPERATORS.toml, which says whose figures they are and
which rows are doubtful. Times are seconds, sizes bytes; a shape that an operator does not have is
NaN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError, nearest
from analyzer.records import Flag, Kind, Provenance, Record, Scenario, Severity
from analyzer.strict import TableSource, decode_toml, read_csv_rows
from calibration.corpus.load import OPERATORS_FILE, PERF_DIR, tables_of

SHAPES = (
    "m",
    "n",
    "k",
    "batch",
    "q_len",
    "kv_len",
    "n_heads",
    "n_kv_heads",
    "head_dim",
    "num_tokens",
    "experts",
    "topk",
    "hidden",
    "inter",
    "bytes",
    "gpus",
)
TEXTS = ("hardware", "op", "dtype", "place", "variant")
KINDS: dict[str, Kind] = {
    **dict.fromkeys(("allreduce", "allgather", "reducescatter", "alltoall"), "collective"),
    **dict.fromkeys(("h2d", "d2h", "p2p"), "link"),
}
"""Operators that are not kernels of a layer."""


class OperatorRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A doubt about some rows of one source."""

    source: str
    when: dict[str, str | tuple[str, ...]]
    variant_contains: str = ""
    shorter_than_us: float | None = None
    flag: str
    severity: Severity
    reason: str


class OperatorSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whose timings one table holds."""

    title: str
    url: str
    licence: str
    citation: str
    measured: str
    commit: str = ""
    caveats: tuple[str, ...] = ()


class OperatorSources(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """OPERATORS.toml."""

    sources: dict[str, OperatorSource]
    rules: tuple[OperatorRule, ...] = ()


class OperatorTable(msgspec.Struct, frozen=True, kw_only=True):
    """Timings of operators, one array per column, all of one length."""

    columns: dict[str, NDArray[Any]]
    """`source`, TEXTS, SHAPES, `latency_s` and `doubt`: an index into `doubts`, 0 for none."""
    doubts: tuple[Flag | None, ...]
    sources: dict[str, OperatorSource]

    def __len__(self) -> int:
        return len(self.columns["latency_s"])

    def where(self, mask: NDArray[np.bool_]) -> OperatorTable:
        """Only the rows of the mask."""
        kept = {name: values[mask] for name, values in self.columns.items()}
        return OperatorTable(columns=kept, doubts=self.doubts, sources=self.sources)

    def select(self, **equal: str) -> OperatorTable:
        """Only the rows whose text columns are as given, e.g. op='gemm'."""
        mask = np.ones(len(self), dtype=bool)
        for name, value in equal.items():
            if name not in self.columns:
                raise ConfigError(f"no column '{name}'{nearest(name, self.columns)}")
            mask &= self.columns[name] == value
        return self.where(mask)

    def usable(self) -> OperatorTable:
        """Only the rows that nothing speaks against."""
        bad = [d is not None and d.severity != "note" for d in self.doubts]
        return self.where(~np.array(bad)[self.columns["doubt"]])

    def record(self, row: int) -> Record:
        """One row as a record."""
        source, op = str(self.columns["source"][row]), str(self.columns["op"][row])
        doubt = self.doubts[int(self.columns["doubt"][row])]
        shapes = {name: float(self.columns[name][row]) for name in SHAPES if name != "gpus"}
        gpus = float(self.columns["gpus"][row])
        about = self.sources[source]
        return Record(
            kind=KINDS.get(op, "operator"),
            metrics={"latency_s": float(self.columns["latency_s"][row])},
            provenance=Provenance(
                source=source,
                document=about.citation,
                place=str(self.columns["place"][row]),
                licence=about.licence,
                commit=about.commit,
            ),
            scenario=Scenario(
                hardware=str(self.columns["hardware"][row]),
                gpus=None if np.isnan(gpus) else int(gpus),
                variant=str(self.columns["variant"][row]),
            ),
            case={
                "op": op,
                "dtype": str(self.columns["dtype"][row]),
                **{name: size for name, size in shapes.items() if not np.isnan(size)},
            },
            flags=() if doubt is None else (doubt,),
        )


def load_operators(
    folder: str | Path = PERF_DIR / "operators", sources: Iterable[str] | None = None
) -> OperatorTable:
    """All operator timings, or those of some sources."""
    root = Path(folder)
    declared = decode_toml(root / OPERATORS_FILE, OperatorSources)
    wanted = list(declared.sources) if sources is None else list(sources)
    for name in wanted:
        if name not in declared.sources:
            raise ConfigError(f"no operator source '{name}'{nearest(name, declared.sources)}")
    _refuse_undeclared(root, declared)
    parts = [_read(root / f"{name}.csv.gz", name) for name in wanted]
    if not parts:
        raise ConfigError("no operator source was asked for")
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    doubt = _doubts(columns, declared.rules)
    flags = tuple(_flag(rule) for rule in declared.rules)
    return OperatorTable(
        columns={**columns, "doubt": doubt}, doubts=(None, *flags), sources=declared.sources
    )


def _refuse_undeclared(root: Path, declared: OperatorSources) -> None:
    for table in tables_of(root):
        name = table.name.removesuffix(".gz").removesuffix(".csv")
        if name not in declared.sources:
            raise DataError(f"{table}: {OPERATORS_FILE} does not say whose figures these are")


def _read(path: Path, source: str) -> dict[str, NDArray[Any]]:
    known = (*TEXTS, *SHAPES, "latency_us")
    lines: list[int] = []
    cells: dict[str, list[str]] = {name: [] for name in known}
    required = (*TEXTS, "latency_us")
    for line_no, row in read_csv_rows(path, required=required, known=known):
        lines.append(line_no)
        for name in known:
            cells[name].append(row.get(name, ""))
    table: dict[str, NDArray[Any]] = {name: np.array(cells[name], dtype=object) for name in TEXTS}
    for name in SHAPES:
        table[name] = _numbers(cells[name], name, path, lines, may_be_empty=True)
    table["latency_s"] = _numbers(cells["latency_us"], "latency_us", path, lines) / 1e6
    table["source"] = np.array([source] * len(lines), dtype=object)
    return table


def _numbers(
    texts: Sequence[str], name: str, path: Path, lines: list[int], *, may_be_empty: bool = False
) -> NDArray[np.float64]:
    """A column of finite, positive numbers; an empty cell is NaN where that is allowed."""
    values = np.empty(len(texts))
    for row, text in enumerate(texts):
        if not text and may_be_empty:
            values[row] = np.nan
        else:
            values[row] = _number(text, name, path, lines[row])
    return values


def _number(text: str, name: str, path: Path, line_no: int) -> float:
    if text.isdecimal() and text.isascii() and text != "0":
        return float(text)
    at = TableSource(path=str(path), line_no=line_no)
    return at.number(name, text, above=0)


def _doubts(columns: dict[str, NDArray[Any]], rules: Sequence[OperatorRule]) -> NDArray[np.int64]:
    doubt = np.zeros(len(columns["latency_s"]), dtype=np.int64)
    for index, rule in enumerate(rules, 1):
        mask = columns["source"] == rule.source
        for name, wanted in rule.when.items():
            if name not in columns:
                raise ConfigError(f"{OPERATORS_FILE}: no column '{name}'{nearest(name, columns)}")
            mask &= np.isin(columns[name], [wanted] if isinstance(wanted, str) else list(wanted))
        if rule.variant_contains:
            mask &= np.array([rule.variant_contains in text for text in columns["variant"]])
        if rule.shorter_than_us is not None:
            mask &= columns["latency_s"] < rule.shorter_than_us / 1e6
        doubt[mask & (doubt == 0)] = index
    return doubt


def _flag(rule: OperatorRule) -> Flag:
    return Flag(code=rule.flag, reason=rule.reason, severity=rule.severity)
