"""Tables of an installed package: units, versions, copies, corrupt files, strangers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from analyzer.errors import ConfigError
from analyzer.sources.packaged import packaged_rows
from analyzer.systems_catalog import load_system

pyarrow = pytest.importorskip("pyarrow")
H100 = load_system("H100-SXM")


def write(path: Path, columns: dict[str, list[Any]]) -> None:
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.table(columns), path)


def gemm(milliseconds: float, device: str = "NVIDIA H100 80GB HBM3") -> dict[str, list[Any]]:
    return {
        "device": [device] * 2, "gemm_dtype": ["bfloat16", "fp8"], "m": [1, 16], "n": [4096] * 2,
        "k": [4096] * 2, "latency": [milliseconds, milliseconds],
    }  # fmt: skip


DECODE = {
    "device": ["NVIDIA H100 80GB HBM3"] * 2, "kernel_source": ["fa3"] * 2, "batch_size": [8, 8],
    "isl": [1, 1], "step": [1023, 1023], "num_heads": [32, 32], "num_key_value_heads": [8, 8],
    "head_dim": [128, 128], "attn_dtype": ["bfloat16"] * 2, "kv_cache_dtype": ["fp8"] * 2,
    "window_size": [0, 128], "latency": [0.02, 0.01],
}  # fmt: skip


def folder(root: Path, gpu: str = "h100_sxm") -> Path:
    return root / gpu / "gemm" / "vllm"


def test_units_versions_and_windows(tmp_path: Path) -> None:
    write(folder(tmp_path) / "0.9.0" / "gemm_perf.parquet", gemm(9.0))
    write(folder(tmp_path) / "0.14.0" / "gemm_perf.parquet", gemm(0.015))
    write(
        tmp_path
        / "h100_sxm"
        / "attention"
        / "vllm"
        / "0.14.0"
        / "generation_attention_perf.parquet",
        DECODE,
    )
    remarks: dict[str, int] = {}
    rows = packaged_rows(H100, "vllm", remarks, tmp_path)
    assert rows.seconds.tolist() == pytest.approx([1.5e-5, 1.5e-5, 2e-5])
    assert rows.text["dtype"].tolist() == ["bf16", "fp8", "bf16"]
    assert rows.text["kv_dtype"].tolist() == ["", "", "fp8"]
    assert rows.numbers["kv_len"][2] == 1024
    assert remarks == {"attn_prefill: no vllm table of h100_sxm": 1}
    old = {name: values for name, values in DECODE.items() if name != "window_size"}
    write(
        tmp_path / "h100_sxm" / "attention" / "vllm" / "0.15.0"
        / "generation_attention_perf.parquet", old,
    )  # fmt: skip
    rows = packaged_rows(H100, "vllm", {}, tmp_path)
    assert rows.seconds[2:].tolist() == pytest.approx([2e-5, 1e-5])


def test_copies_corrupt_files_and_strangers_are_counted(tmp_path: Path) -> None:
    write(folder(tmp_path) / "1.0" / "gemm_perf.parquet", gemm(0.01))
    write(folder(tmp_path, "h200_sxm") / "1.0" / "gemm_perf.parquet", gemm(0.01))
    remarks: dict[str, int] = {}
    with pytest.raises(ConfigError, match="has nothing of vllm"):
        packaged_rows(H100, "vllm", remarks, tmp_path)
    assert remarks["gemm: the file is a copy of h200_sxm's"] == 1
    (folder(tmp_path) / "1.0" / "gemm_perf.parquet").write_bytes(b"PAR1 no table at all")
    remarks.clear()
    with pytest.raises(ConfigError):
        packaged_rows(H100, "vllm", remarks, tmp_path)
    assert any("cannot be read" in reason for reason in remarks)
    write(folder(tmp_path) / "1.0" / "gemm_perf.parquet", gemm(0.02, "NVIDIA GB300"))
    remarks.clear()
    with pytest.raises(ConfigError):
        packaged_rows(H100, "vllm", remarks, tmp_path)
    assert remarks["gemm: the rows were measured on NVIDIA GB300"] == 1


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install aiconfigurator-core"):
        packaged_rows(H100, "vllm", {})
