"""What goes wrong must say so in one line, hang nothing and leave nothing behind."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from analyzer.errors import CapacityError, ConfigError, DataError, ProfilerError
from analyzer.offload_policy import OffloadPolicy
from profilers.offload import files
from profilers.offload.engine import OffloadEngine

from .oracle import NEW, prompts

ROOT = Path(__file__).parents[2]
ON_DISK = OffloadPolicy.from_percent((0, 0, 0, 0, 0, 0), gpu_batch=2, num_gpu_batches=2)


@pytest.fixture
def broken(checkpoint, tmp_path):
    """A copy of a checkpoint that a test may damage."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint("llama3"), folder)
    return folder


def generate(folder: Path, spill: Path, policy: OffloadPolicy = ON_DISK) -> torch.Tensor:
    ids, mask = prompts(4)
    with OffloadEngine(folder, policy, dtype="float32", device="cpu", offload_dir=spill) as engine:
        return engine.generate(ids, NEW, attention_mask=mask).tokens


def left_behind(spill: Path) -> list[Path]:
    return sorted(spill.iterdir()) if spill.exists() else []


def workers() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("offload-")]


@pytest.mark.parametrize(
    "percent", [(60, 50, 100, 0, 100, 0), (100, 0, -1, 0, 100, 0), (100, 0, 100, 0, 101, 0)]
)
def test_impossible_percents(percent):
    with pytest.raises(ConfigError, match="percent"):
        OffloadPolicy.from_percent(percent)


def test_five_percents_are_not_six():
    with pytest.raises(ConfigError, match="six"):
        OffloadPolicy.from_percent((100, 0, 100, 0, 100))


def test_missing_shard(broken, tmp_path):
    victim = sorted(broken.glob("*.safetensors"))[1]
    victim.unlink()
    with pytest.raises(DataError, match=victim.name):
        generate(broken, tmp_path / "spill")
    assert not left_behind(tmp_path / "spill")
    assert not workers()


@pytest.mark.parametrize("keep", [5, 200, -100])
def test_truncated_shard(broken, tmp_path, keep):
    victim = sorted(broken.glob("*.safetensors"))[0]
    content = victim.read_bytes()
    victim.write_bytes(content[:keep])
    with pytest.raises(DataError, match="truncated"):
        generate(broken, tmp_path / "spill")
    assert not left_behind(tmp_path / "spill")


def test_shard_cut_while_it_is_being_read(broken, tmp_path):
    ids, mask = prompts(4)
    spill = tmp_path / "spill"
    with OffloadEngine(broken, ON_DISK, dtype="float32", offload_dir=spill) as engine:
        for shard in broken.glob("*.safetensors"):
            os.truncate(shard, 100)
        with pytest.raises(DataError, match="cut short"):
            engine.generate(ids, NEW, attention_mask=mask)
    assert not left_behind(spill)
    assert not workers()


def test_tensor_of_another_shape(broken, tmp_path):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"intermediate_size": 97}))
    with pytest.raises(DataError, match="shape"):
        generate(broken, tmp_path / "spill")


def test_unknown_family_names_the_nearest(broken, tmp_path):
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"model_type": "lama"}))
    with pytest.raises(ConfigError, match="llama"):
        generate(broken, tmp_path / "spill")


def test_full_disk_when_space_is_claimed(checkpoint, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    with pytest.raises(CapacityError, match="No space left"):
        generate(checkpoint("llama3"), tmp_path / "spill")
    assert not left_behind(tmp_path / "spill")
    assert not workers()


def test_disk_that_fills_up_in_a_worker(checkpoint, tmp_path, monkeypatch):
    real, calls = os.pwrite, []

    def filling(*arguments: object) -> int:
        calls.append(1)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(files.os, "pwrite", filling)
    with pytest.raises(CapacityError, match="offload-dir"):
        generate(checkpoint("llama3"), tmp_path / "spill")
    assert not left_behind(tmp_path / "spill")
    assert not workers()


def test_any_worker_failure_surfaces(checkpoint, tmp_path, monkeypatch):
    def fail(*_: object) -> int:
        raise ZeroDivisionError("injected")

    monkeypatch.setattr("profilers.offload.block.maths.finish", fail)
    with pytest.raises(ZeroDivisionError, match="injected"):
        generate(checkpoint("llama3"), tmp_path / "spill")
    assert not left_behind(tmp_path / "spill")
    assert not workers()


def test_a_gpu_that_is_too_small(checkpoint, tmp_path, monkeypatch):
    def exhausted(*_: object) -> int:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr("profilers.offload.block.maths.finish", exhausted)
    with pytest.raises(CapacityError, match="smaller percent on the GPU"):
        generate(checkpoint("llama3"), tmp_path / "spill")
    assert not workers()


def test_a_file_where_the_directory_should_be(checkpoint, tmp_path):
    (tmp_path / "spill").write_text("in the way")
    with pytest.raises(ProfilerError, match="offload directory"):
        generate(checkpoint("llama3"), tmp_path / "spill")


def test_token_outside_the_vocabulary(checkpoint, tmp_path):
    policy = OffloadPolicy(gpu_batch=1)
    with (
        OffloadEngine(
            checkpoint("opt"), policy, dtype="float32", offload_dir=tmp_path / "s"
        ) as engine,
        pytest.raises(ConfigError, match="vocabulary"),
    ):
        engine.generate([[1, 9999]], 1)


def test_more_positions_than_the_model_has(checkpoint, tmp_path):
    policy = OffloadPolicy(gpu_batch=1)
    with (
        OffloadEngine(
            checkpoint("opt"), policy, dtype="float32", offload_dir=tmp_path / "s"
        ) as engine,
        pytest.raises(ConfigError, match="positions"),
    ):
        engine.generate([[1, 2]], 100)


SLOW_RUN = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background ignores it

import sys
import torch
from analyzer.offload_policy import OffloadPolicy
from profilers.offload.engine import OffloadEngine
policy = OffloadPolicy.from_percent((0, 0, 0, 0, 0, 0), gpu_batch=2, num_gpu_batches=2)
with OffloadEngine(sys.argv[1], policy, dtype="float32", device="cpu", offload_dir=sys.argv[2],
                   rates={"disk_read": float(sys.argv[3])}) as engine:
    print("ready", flush=True)
    print(engine.generate(torch.arange(3, 31).view(4, 7), 6).tokens.tolist())
"""


def start(folder: Path, spill: Path, rate: float) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", SLOW_RUN, str(folder), str(spill), str(rate)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, text=True, **pipes)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_killed_in_mid_run(how, checkpoint, tmp_path):
    spill = tmp_path / "spill"
    with start(checkpoint("llama3"), spill, 1e5) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.3)
        process.send_signal(how)
        process.communicate(timeout=30)
        assert process.returncode != 0
    assert not left_behind(spill)


def test_two_processes_share_a_directory(checkpoint, tmp_path):
    folder, spill = checkpoint("llama3"), tmp_path / "spill"
    both = [start(folder, spill, 1e8) for _ in range(2)]
    said = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[0][0] == said[1][0]
    assert not left_behind(spill)


def test_a_file_size_limit_stands_for_a_full_disk(checkpoint, tmp_path):
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + SLOW_RUN
    folder, spill = checkpoint("llama3"), tmp_path / "spill"
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder), str(spill), "1e9"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "CapacityError: no room for" in done.stderr
    assert not left_behind(spill)
