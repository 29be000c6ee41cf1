"""A folder of measurements as it is: chat.csv-style files, or any CSV with a mapping beside it.

Files of simulated figures often lie beside measured ones. A file is read when its columns are those
of a measurement; every other file is named in the result together with the reason, so that none
vanishes in silence.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from analyzer.errors import DataError, nearest
from analyzer.records import Record, Scalar
from analyzer.strict import decode_toml, read_csv_rows
from calibration.corpus.load import tables_of
from calibration.corpus.mapping import STANDARD_COLUMNS, Column, Mapping, field_type
from calibration.corpus.reading import Reader, read_table

MAPPING_FILE = "mapping.toml"

_CHAT_COLUMNS: dict[str, Column] = {
    "conversation_id": Column(field="case.conversation_id"),
    "input_tokens": Column(field="input_tokens"),
    "output_tokens": Column(field="output_tokens"),
    "E2E": Column(field="e2e_s", unit="ms", statistic="mean", definition="request to last token"),
    "TTFT": Column(field="ttft_s", unit="ms", statistic="mean", definition="to the first token"),
    "TPOT": Column(field="tpot_s", unit="ms", statistic="mean", definition="(E2E − TTFT)/(n − 1)"),
    "n_runs_total": Column(field="case.n_runs_total", unit="1"),
    "n_runs_used": Column(field="repeats"),
    "e2e_p25": Column(field="spread", of="e2e_s", statistic="p25", unit="ms"),
    "e2e_p75": Column(field="spread", of="e2e_s", statistic="p75", unit="ms"),
}
_CHAT_NEEDS = ("input_tokens", "output_tokens", "E2E", "TTFT", "TPOT")
_CHAT_TEXT = "input_text"
"""Prompts are other people's words: left unread."""

_OWN_METRICS = {
    name for name, column in STANDARD_COLUMNS.items() if field_type(column.field) is None
}
"""Columns of the corpus's own that hold figures."""


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A file that was not read, and why."""

    path: str
    reason: str


class PerfDir(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder held."""

    records: tuple[Record, ...]
    skipped: tuple[Skipped, ...]
    assumed: tuple[str, ...]
    """What was read from names rather than from columns, in words."""


def read_perf_dir(
    folder: str | Path,
    constants: dict[str, Scalar] | None = None,
    reader: Reader | None = None,
    mapping_path: str | Path | None = None,
) -> PerfDir:
    """All measurements in a folder (or one file); `constants` says what no column does.

    For chat.csv-style files the constants are at least hardware and model, and tp unless the
    folder's name has it. Raises an InputError where nothing can be read or a row is wrong.
    """
    given = dict(constants or {})
    files = _files(Path(folder))
    records: list[Record] = []
    skipped: list[Skipped] = []
    assumed: list[str] = []
    for path in files:
        mapping, remark = _mapping_for(path, given, mapping_path)
        if isinstance(mapping, str):
            skipped.append(Skipped(path=str(path), reason=mapping))
            continue
        assumed.extend(remark)
        found = read_table(path, mapping, reader or Reader(refuse_duplicates=True))
        _require_names(path, found)
        records.extend(found)
    if not records:
        raise DataError(_nothing_read(folder, skipped))
    return PerfDir(records=tuple(records), skipped=tuple(skipped), assumed=tuple(assumed))


def _files(folder: Path) -> list[Path]:
    if folder.is_file():
        return [folder]
    if not folder.is_dir():
        raise DataError(f"{folder}: no such file or folder")
    inner = sorted(p for p in folder.rglob("*") if p.is_dir())
    return [table for place in (folder, *inner) for table in tables_of(place)]


def _mapping_for(
    path: Path, constants: dict[str, Scalar], mapping_path: str | Path | None
) -> tuple[Mapping | str, list[str]]:
    """The mapping of a file, or the reason why there is none, and what was assumed."""
    declared = Path(mapping_path) if mapping_path else path.parent / MAPPING_FILE
    if mapping_path or declared.exists():
        mapping = decode_toml(declared, Mapping)
        return msgspec.structs.replace(mapping, constants={**mapping.constants, **constants}), []
    header = _header(path)
    if all(name in header for name in _CHAT_NEEDS):
        return _chat_mapping(path, header, constants)
    if any(name.startswith("pred_") for name in header):
        return "it holds predictions", []
    if _OWN_METRICS & set(header):
        absent = {k: v for k, v in constants.items() if k not in header}
        return Mapping(title=path.stem, constants=absent), []
    missing = [f"'{n}'{nearest(n, header)}" for n in _CHAT_NEEDS if n not in header]
    said = "chat.csv's columns are not all there: it lacks"
    return f"no {MAPPING_FILE} is beside it, and {said} {', '.join(missing)}", []


def _header(path: Path) -> list[str]:
    for _, row in read_csv_rows(path):
        return list(row)
    return []


def _chat_mapping(
    path: Path, header: list[str], constants: dict[str, Scalar]
) -> tuple[Mapping, list[str]]:
    known = {"engine": "unstated", "arrival": "single request", "concurrency": 1, **constants}
    assumed = []
    if "tp" not in known:
        found = re.search(r"\btp(\d+)\b", path.parent.name.replace("_", "-"), re.IGNORECASE)
        known["tp"] = int(found.group(1)) if found else 1
        origin = f"the folder's name '{path.parent.name}'" if found else "nothing else being said"
        assumed.append(f"{path}: tp = {known['tp']} from {origin}")
    known.setdefault("gpus", known["tp"])
    mapping = Mapping(
        title=path.parent.name,
        constants=known,
        columns={name: column for name, column in _CHAT_COLUMNS.items() if name in header},
        ignore=(_CHAT_TEXT,),
    )
    return mapping, assumed


def _require_names(path: Path, records: list[Record]) -> None:
    for name in ("hardware", "model"):
        if not all(getattr(record.scenario, name) for record in records):
            raise DataError(f"{path}: not every row gives the {name}; say which it is")


def _nothing_read(folder: str | Path, skipped: list[Skipped]) -> str:
    if not skipped:
        return f"{folder}: holds no CSV file"
    first = skipped[0]
    return f"{first.path}: cannot be read as measurements: {first.reason}; write a {MAPPING_FILE}"
