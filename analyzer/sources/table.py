"""The source of measured tables: own records, or those of an installed package.

Per class (operator, format, software) the ratio of measured time to the kernel form's is
interpolated between the nearest shapes. Rows faster than light and tables copied from another
device are left out and counted; shapes beyond the measured ones are left to the next source.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.errors import ConfigError, InputError
from analyzer.optable import OpTable
from analyzer.sources.base import Answer, Context, Source
from analyzer.sources.describe import COORDINATES, Described, describe, scaled
from analyzer.sources.neighbours import CHOSEN, Cloud, cloud
from analyzer.sources.operator_fit import OperatorFit, catalog_fits
from analyzer.sources.operator_rows import OperatorRows, joined, read_operator_rows
from analyzer.sources.operator_work import FORM_OF, format_of, shape_rows
from analyzer.sources.physics import copies, gate
from analyzer.sources.stored import STORE_FILE, read_stored
from analyzer.system import System
from analyzer.timing.kernels import FORMS, Chip
from analyzer.timing.kernels.common import Array

LEAST_POINTS = 12
FLOOR = 0.03
"""Relative uncertainty of an interpolation at best: what re-runs of one stack differ by."""

FAR = "far beyond the measured shapes"
NEAR = "a little beyond the measured shapes, carried on from their edge"

ClassKey = tuple[str, str, str]
"""Operator, format, cache format."""


@dataclass(frozen=True)
class ClassTable:
    """One class of measured operators, ready to interpolate."""

    op: str
    software: str
    chip: Chip
    params: Any
    cloud: Cloud

    def seconds(self, work: Any, ways: Sequence[Array]) -> tuple[Array, Array, Array]:
        """Times, relative uncertainties, octaves beyond the measured shapes; NaN far beyond them.
        Where an operator can be read in several ways, the mean of those that were measured."""
        form = FORMS[FORM_OF.get(self.op, self.op)]
        found = [self.cloud.at(scaled(self.op, coordinates)) for coordinates in ways]
        known = np.stack([each.inside for each in found])
        shares = known / np.maximum(known.sum(axis=0), 1)
        value = (shares * np.stack([each.value for each in found])).sum(axis=0)
        scatter = (shares * np.stack([each.scatter for each in found])).sum(axis=0)
        modelled = form.time(work, self.chip, self.params)
        seconds = np.where(known.any(axis=0), modelled * np.exp(value), np.nan)
        beyond = np.min(np.stack([each.beyond for each in found]), axis=0)
        return seconds, np.hypot(scatter, FLOOR), beyond


class Classes(dict[ClassKey, ClassTable | None]):
    """Classes that are made ready to interpolate when they are first asked for."""

    def __init__(self, waiting: Mapping[ClassKey, OperatorRows], make: Make) -> None:
        super().__init__()
        self._waiting, self._make = dict(waiting), make

    def __missing__(self, key: ClassKey) -> ClassTable | None:
        rows = self._waiting.get(key)
        self[key] = made = self._make(rows) if rows is not None else None
        return made

    def all(self) -> dict[ClassKey, ClassTable]:
        """Every class that has rows enough."""
        return {key: made for key in self._waiting if (made := self[key]) is not None}


Make = Callable[[OperatorRows], ClassTable | None]


@dataclass(frozen=True)
class MeasuredTable:
    """All classes that were measured on one device."""

    classes: Classes
    notes: Mapping[str, int] = field(default_factory=dict)
    """What the classes that were asked for so far left out."""
    name: str = "table"

    def answer(self, table: OpTable) -> Answer:
        """Times of the operators whose class and shape were measured."""
        shape = (len(table.names), *table.shape)
        seconds, uncertainty = np.full(shape, np.nan), np.full(shape, np.nan)
        remarks: dict[str, int] = {}
        for index in range(len(table.names)):
            described = describe(table, index)
            known = self._find(described) if described is not None else None
            if described is None or known is None:
                count(remarks, f"{table.names[index]}: no measured class", seconds[index].size)
                continue
            found, doubt, beyond = known.seconds(described.work, described.coordinates)
            seconds[index] = (found * described.share).reshape(described.shape)
            uncertainty[index] = doubt.reshape(described.shape)
            cells = seconds[index].size // described.scenarios
            for which, what in ((np.isnan(found), FAR), (~np.isnan(found) & (beyond > 0), NEAR)):
                if which.any():
                    times = int(which.sum()) * cells
                    count(remarks, f"{table.names[index]}: {what}", times)
        return Answer(seconds, uncertainty, remarks)

    def _find(self, described: Described) -> ClassTable | None:
        for dtype in described.dtypes:
            known = self.classes[described.op, dtype, described.kv_dtype]
            if known is not None:
                return known
        return None


def count(remarks: dict[str, int], reason: str, more: int) -> None:
    """Add to the occurrences of a reason."""
    remarks[reason] = remarks.get(reason, 0) + more


def measured_table(
    rows: OperatorRows,
    system: System,
    software: str = "",
    fits: Sequence[OperatorFit] = (),
    remarks: dict[str, int] | None = None,
) -> MeasuredTable:
    """The classes among `rows` (all of one device), gated; of several stacks the one asked for,
    or else the one with most rows, is taken."""
    remarks = {} if remarks is None else remarks
    chosen: dict[ClassKey, OperatorRows] = {}
    for members in _classes(rows):
        first = {name: str(column[0]) for name, column in members.text.items()}
        if not first["software"].startswith(software):
            count(remarks, f"rows of other software ({first['software']})", len(members))
            continue
        key = (first["op"], first["dtype"], first["kv_dtype"])
        if key not in chosen or _rank(members) > _rank(chosen[key]):
            chosen[key] = members
    classes = Classes(chosen, lambda members: _class_table(members, system, fits, remarks))
    return MeasuredTable(classes, remarks)


def _rank(rows: OperatorRows) -> tuple[bool, int]:
    """Evenly routed experts before skewed ones, then whatever has most rows."""
    return str(rows.text["routing"][0]) in ("", "balanced"), len(rows)


def _classes(rows: OperatorRows) -> list[OperatorRows]:
    rows = rows.take(np.isin(rows.text["op"], list(COORDINATES)))
    if not len(rows):
        return []
    keys = ("op", "dtype", "kv_dtype", "software", "routing")
    labels = np.stack([rows.text[key] for key in keys], axis=1)
    _, which = np.unique(labels, axis=0, return_inverse=True)
    return [rows.take(np.flatnonzero(which.ravel() == index)) for index in range(which.max() + 1)]


def _class_table(
    rows: OperatorRows, system: System, fits: Sequence[OperatorFit], remarks: dict[str, int]
) -> ClassTable | None:
    first = {name: str(column[0]) for name, column in rows.text.items()}
    op, dtype = first["op"], first["dtype"]
    try:
        chip = chip_of(system, dtype)
    except InputError as error:
        count(remarks, str(error), len(rows))
        return None
    passed = gate_rows(rows, chip, remarks)
    if len(passed) < LEAST_POINTS:
        count(remarks, f"{op} {dtype}: fewer than {LEAST_POINTS} rows", len(passed))
        return None
    shaped = shape_rows(passed, op, dtype, chip)
    form = FORMS[FORM_OF.get(op, op)]
    fitted = [fit for fit in fits if _same_class(fit, first, system)]
    params = fitted[0].kernel_params if fitted else form.params()
    ratio = np.log(passed.seconds / form.time(shaped.work, chip, params))
    columns = [shaped.feature_names.index(name) for name in COORDINATES[op]]
    return ClassTable(
        op, first["software"], chip, params, _cloud(op, shaped.features[:, columns], ratio)
    )


def _cloud(op: str, places: Array, ratio: Array) -> Cloud:
    return cloud(scaled(op, places), ratio, CHOSEN.get(op))


def _same_class(fit: OperatorFit, first: Mapping[str, str], system: System) -> bool:
    keys = ("hardware", "op", "dtype", "software", "kv_dtype", "routing")
    return all(getattr(fit, key) == first[key] for key in keys)


def gate_rows(rows: OperatorRows, chip: Chip, remarks: dict[str, int]) -> OperatorRows:
    """The possible rows of one class; the others are counted by reason."""
    op, dtype = str(rows.text["op"][0]), str(rows.text["dtype"][0])
    shaped = shape_rows(rows, op, dtype, chip)
    passed = gate(rows.seconds, shaped.flops, shaped.moved_B, chip)
    for reason, times in passed.refused.items():
        count(remarks, f"{op} {dtype}: {reason}", times)
    return rows.take(passed.possible)


def chip_of(system: System, dtype: str) -> Chip:
    """The device's figures for arithmetic in a measured format."""
    device = system.device
    peak = device.peak(format_of(dtype).compute)
    return Chip(peak, device.memory_bandwidth_Bps, device.units, device.l2_B or 0.0)


def rows_of_system(rows: OperatorRows, system: System, remarks: dict[str, int]) -> OperatorRows:
    """The rows measured on this system's device, without tables that are another's copies."""
    is_mine = of_device(system)
    mine = [str(hardware) for hardware in np.unique(rows.text["hardware"]) if is_mine(hardware)]
    keep = np.isin(rows.text["hardware"], mine)
    for copied in _copied_classes(rows):
        if copied[0] in mine:
            same = np.logical_and.reduce(
                [rows.text[key] == value for key, value in zip(_COPY_KEYS, copied, strict=True)]
            )
            count(remarks, "rows of a table copied from another device", int((same & keep).sum()))
            keep &= ~same
    return rows.take(keep)


def of_device(system: System) -> Callable[[str], bool]:
    """Whether a name of a benchmark's hardware means this system's device."""
    from analyzer.systems_catalog import load_system

    @functools.cache
    def is_mine(hardware: str) -> bool:
        try:
            return load_system(str(hardware)).device.name == system.device.name
        except InputError:
            return False

    return is_mine


_COPY_KEYS = ("hardware", "op", "dtype", "software", "kv_dtype", "routing")


def _copied_classes(rows: OperatorRows) -> list[tuple[str, ...]]:
    labels = np.stack([rows.text[key] for key in _COPY_KEYS], axis=1)
    found, which = np.unique(labels, axis=0, return_inverse=True)
    tables = {
        "|".join(label): rows.take(np.flatnonzero(which.ravel() == index))
        for index, label in enumerate(found)
    }
    return [tuple(name.split("|")) for name in copies(tables)]


def own_records() -> list[Path]:
    """The operator tables of this project's data folder, where the project is laid out in full."""
    folder = Path(__file__).parents[2] / "benchmark-perf" / "operators"
    return sorted(folder.glob("*.csv*"))


def build(context: Context) -> Source:
    """Options `table`: `from`, a file or folder of operator rows or records, or the framework whose
    tables of the installed aiconfigurator-core are meant (default: the project's own records);
    `paths` of several files; `software`; `fits` (default: the catalog's)."""
    given = context.options.get("table", {})
    remarks: dict[str, int] = {}
    rows = _rows_for(given, context.system, remarks)
    if not len(rows):
        left = "; ".join(f"{reason}: {times}" for reason, times in remarks.items())
        raise ConfigError(
            f"table: no rows of {context.system.device.name} in "
            f"{given.get('from', 'the records')}{f' ({left})' if left else ''}; "
            f"measure some (plumbline profile operators), or use another source"
        )
    fits = given.get("fits", catalog_fits())
    return measured_table(rows, context.system, str(given.get("software", "")), fits, remarks)


def _rows_for(given: Mapping[str, Any], system: System, remarks: dict[str, int]) -> OperatorRows:
    from analyzer.sources.packaged import FRAMEWORKS, packaged_rows

    origin = str(given.get("from", ""))
    if "package" in given or origin in FRAMEWORKS:
        framework = str(given.get("package", origin))
        return packaged_rows(system, framework, remarks, given.get("root"))
    if origin:
        return rows_of_system(_read(Path(origin), remarks), system, remarks)
    if "paths" in given:
        if not given["paths"]:
            raise ConfigError("table: no operator records are given; name a file or a folder")
        rows = joined([_read(Path(path), remarks) for path in given["paths"]])
        return rows_of_system(rows, system, remarks)
    own = own_records()
    if not own:
        raise ConfigError(
            "table: the project's operator records are not here (they lie in "
            "benchmark-perf/operators of its repository); use table:FILE, or another source"
        )
    return read_operator_rows(own, of_device(system))  # they are checked for copies in the tests


def _read(path: Path, remarks: dict[str, int]) -> OperatorRows:
    if path.is_dir() and not (path / STORE_FILE).exists():
        return read_operator_rows(sorted(path.glob("*.csv*")))
    if path.is_dir() or path.suffix == ".jsonl":
        return read_stored(path, remarks)
    return read_operator_rows([path])
