"""Measured tables of the `aiconfigurator-core` package, where it is installed.

Its parquet files are read with pyarrow, one GPU and one framework at a time. Traps that its users
have met are met here: latencies are milliseconds, a decode row's keys are `step` and the new token,
sliding windows are rows of their own, and some GPUs' files are another GPU's, byte for byte.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from analyzer.errors import ConfigError, InputError
from analyzer.sources.operator_rows import NUMBERS, TEXT, OperatorRows, joined
from analyzer.system import System
from analyzer.timing.kernels.common import Array

PACKAGE = "aiconfigurator_core"
FRAMEWORKS = ("vllm", "sglang", "trtllm")
WANTED = "aiconfigurator-core==0.12.0"
_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float8": "fp8"}
FAMILIES = {
    "gemm": "gemm_perf",
    "attn_prefill": "context_attention_perf",
    "attn_decode": "generation_attention_perf",
}
_FOLDER_OF = {"gemm": "gemm", "attn_prefill": "attention", "attn_decode": "attention"}


def packaged_rows(
    system: System, framework: str, remarks: dict[str, int], root: Path | None = None
) -> OperatorRows:
    """The package's rows for this system's device and one framework, newest version of each."""
    tables = _root() if root is None else root
    folder = _gpu_folder(tables, system)
    parts = []
    for op, stem in FAMILIES.items():
        path = _newest(folder / _FOLDER_OF[op] / framework, f"{stem}.parquet")
        if path is None:
            _note(remarks, f"{op}: no {framework} table of {folder.name}")
            continue
        if copied := _copy_of(path, folder, tables):
            _note(remarks, f"{op}: the file is a copy of {copied}'s")
            continue
        part = _read(path, op, framework, system, remarks)
        if part is not None:
            parts.append(part)
    if not parts:
        raise ConfigError(f"table: {WANTED} has nothing of {framework} for {system.device.name}")
    return joined(parts)


def _root() -> Path:
    for needed in (PACKAGE, "pyarrow"):
        if importlib.util.find_spec(needed) is None:
            name = WANTED if needed == PACKAGE else needed
            raise ConfigError(f"table: {name} is not installed; pip install {name}")
    origin = importlib.util.find_spec(PACKAGE)
    if origin is None or origin.origin is None:
        raise ConfigError(f"table: {WANTED} is installed without its tables")
    return Path(origin.origin).parent / "systems" / "data"


def _gpu_folder(tables: Path, system: System) -> Path:
    from analyzer.systems_catalog import load_system

    found = []
    for folder in sorted(path for path in tables.iterdir() if path.is_dir()):
        try:
            device = load_system(folder.name.replace("_", "-")).device.name
        except InputError:
            continue
        found.append(folder.name)
        if device == system.device.name:
            return folder
    has = ", ".join(found)
    raise ConfigError(f"table: {WANTED} has no tables of {system.device.name} (it has {has})")


def _newest(folder: Path, name: str) -> Path | None:
    paths = sorted(folder.glob(f"*/{name}"), key=lambda path: _version(path.parent.name))
    return paths[-1] if paths else None


def _version(text: str) -> tuple[tuple[int, int, str], ...]:
    """Numbers compare as numbers; a release candidate comes before its release."""
    parts = re.findall(r"\d+|[a-z]+", text)
    ranked = [
        (1, int(part), "") if part.isdigit() else (-1 if part == "rc" else 2, 0, part)
        for part in parts
    ]
    return (*ranked, (0, 0, ""))


def _copy_of(path: Path, folder: Path, tables: Path) -> str:
    """The other GPU whose file of this name holds the same bytes, or ''."""
    inner = path.relative_to(folder)
    mine = path.stat().st_size
    digest = ""
    for other in sorted(tables.iterdir()):
        candidate = other / inner
        if other == folder or not candidate.is_file() or candidate.stat().st_size != mine:
            continue
        digest = digest or _digest(path)
        if _digest(candidate) == digest:
            return other.name
    return ""


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(
    path: Path, op: str, framework: str, system: System, remarks: dict[str, int]
) -> OperatorRows | None:
    parquet = importlib.import_module("pyarrow.parquet")
    library = importlib.import_module("pyarrow")
    try:
        table = parquet.read_table(path)
        columns = {name: table.column(name).to_numpy() for name in table.column_names}
        if stranger := _stranger(columns["device"], system):
            _note(remarks, f"{op}: the rows were measured on {stranger}")
            return None
        return _COLUMNS[op](columns, framework, system.device.name)
    except (library.ArrowException, OSError) as error:
        _note(remarks, f"{op}: {path.name} cannot be read ({type(error).__name__})")
    except KeyError as error:
        _note(remarks, f"{op}: {path.name} has no column {error}")
    return None


def _stranger(devices: Any, system: System) -> str:
    """The device that the file itself names, where it is another one of the catalog."""
    from analyzer.systems_catalog import load_system

    for device in np.unique(np.asarray(devices, dtype=str)):
        try:
            named = load_system(str(device)).device.name
        except InputError:
            continue
        if named != system.device.name:
            return str(device)
    return ""


def _gemm(columns: dict[str, Any], framework: str, hardware: str) -> OperatorRows:
    numbers = {name: _float(columns[name]) for name in ("m", "n", "k")}
    dtypes = _renamed(columns["gemm_dtype"])
    software = np.full(len(dtypes), framework)
    return _rows("gemm", hardware, dtypes, software, numbers, columns["latency"])


def _attention(op: str) -> Callable[[dict[str, Any], str, str], OperatorRows]:
    def read(columns: dict[str, Any], framework: str, hardware: str) -> OperatorRows:
        new, step = _float(columns["isl"]), _float(columns["step"])
        numbers = {
            "batch": _float(columns["batch_size"]),
            "q_len": new,
            "kv_len": step + new,
            "n_heads": _float(columns["num_heads"]),
            "n_kv_heads": _float(columns["num_key_value_heads"]),
            "head_dim": _float(columns["head_dim"]),
        }
        kernels = np.asarray([f"{framework}/{name}" for name in columns["kernel_source"]])
        dtypes = _renamed(columns["attn_dtype"])
        made = _rows(op, hardware, dtypes, kernels, numbers, columns["latency"])
        made.text["kv_dtype"][:] = _renamed(columns["kv_cache_dtype"])
        windows = columns.get("window_size")  # tables from before windows have none of them
        return made if windows is None else made.take(_float(windows) == 0)

    return read


_COLUMNS: dict[str, Callable[[dict[str, Any], str, str], OperatorRows]] = {
    "gemm": _gemm,
    "attn_prefill": _attention("attn_prefill"),
    "attn_decode": _attention("attn_decode"),
}


def _renamed(names: Iterable[Any]) -> Any:
    return np.asarray([_DTYPES.get(str(name), str(name)) for name in names], dtype="U16")


def _float(values: Any) -> Array:
    return np.asarray(values, dtype=float)


def _rows(
    op: str, hardware: str, dtypes: Any, software: Any, numbers: dict[str, Array], milliseconds: Any
) -> OperatorRows:
    count = len(dtypes)
    text = {name: np.full(count, "", dtype="U96") for name in TEXT}
    text["source"][:], text["op"][:], text["hardware"][:] = PACKAGE, op, hardware
    text["dtype"][:], text["software"][:] = dtypes, software
    columns = {name: numbers.get(name, np.full(count, np.nan)) for name in NUMBERS}
    seconds = 1e-3 * _float(milliseconds)
    rows = OperatorRows(text, columns, seconds)
    return rows.take(np.isfinite(seconds) & (seconds > 0))


def _note(remarks: dict[str, int], reason: str) -> None:
    remarks[reason] = remarks.get(reason, 0) + 1
