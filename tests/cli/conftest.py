from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.shell import Shell, shell


@pytest.fixture
def plumbline(capsys: pytest.CaptureFixture[str]) -> Shell:
    """The command line."""
    return shell(capsys)


CALIBRATION = """
schema = 1
system = "RTX3090"
engine = "vllm-v1"
rows = 40
models = 4
data_sha256 = "0123456789abcdef"
command = "written by a test"

[rates]
mem_eff = { value = 0.8, low = 0.75, high = 0.85, data_share = 0.9, identified = true }
gemm_eff_16 = { value = 0.7, low = 0.5, high = 0.9, data_share = 0.1, identified = false }

[[bands]]
metric = "ttft_s"
level = 0.8
low = 0.9
high = 1.25
groups = 4
coverage = 0.8

[[bands]]
metric = "tpot_s"
level = 0.8
low = 0.95
high = 1.1
groups = 4
coverage = 0.8

[[scores]]
metric = "tpot_s"
rows = 40
models = 4
in_sample = 0.03
held_out = 0.05

[hull]
batch = [1.0, 16.0]
input_tokens = [16.0, 2048.0]
output_tokens = [1.0, 512.0]
devices = [1, 2]
weights = ["fp16", "bf16"]
arrivals = ["static"]
models = ["llama-2-7b"]
"""


@pytest.fixture
def own_rates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's own with one calibration in it."""
    folder = tmp_path / "rates"
    folder.mkdir()
    (folder / "RTX3090__vllm-v1.toml").write_text(CALIBRATION)
    monkeypatch.setenv("PLUMBLINE_RATES", str(folder))
    return folder
