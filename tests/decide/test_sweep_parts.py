"""Sweeps in pieces: the same bytes however often they are killed, and wherever they run."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from analyzer.designs import Design, Range
from analyzer.errors import ConfigError
from reports.sweep_parts import Sweep
from reports.sweep_run import run_sweep, sweep_from

ROOT = Path(__file__).parents[2]
DESIGN = Design(
    kind="latin-hypercube",
    axes={
        "model": ["llama-2-7b"],
        "system": ["H100-SXM"],
        "weights": ["bf16", "fp8"],
        "batch": Range(low=1, high=64),
        "input_tokens": Range(low=16, high=4096, log=True),
        "tp": [1, 2, 3],
    },
    points=6000,
    seed=9,
)
SWEEP = Sweep(design=DESIGN, engine="", arrival="static", given="uncalibrated", form="", piece=100)


def victim(out: Path, sweep: Sweep = SWEEP) -> subprocess.Popen[bytes]:
    """The same sweep in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.decide.sweep_victim", str(out)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(sweep.described())
    process.stdin.close()
    return process


def test_a_sweep_killed_at_any_moment_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    reference = tmp_path / "whole.csv"
    run_sweep(SWEEP, str(reference))
    chance = np.random.default_rng(4)
    out = tmp_path / "killed.csv"
    kills = 0
    for _ in range(SWEEP.pieces):
        process = victim(out)
        parts = out.with_name(f"{out.name}.parts")
        _wait_for_more(parts, int(chance.integers(1, 16)), process)
        time.sleep(chance.random() * 0.01)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.wait()
        if out.exists():
            break
    assert kills >= 3
    assert out.read_bytes() == reference.read_bytes()
    assert not out.with_name(f"{out.name}.parts").exists()


def _wait_for_more(parts: Path, more: int, process: subprocess.Popen[bytes]) -> None:
    """Until some more pieces are there, or the process has ended."""
    have = len(list(parts.glob("*.csv"))) if parts.exists() else 0
    while process.poll() is None:
        if parts.exists() and len(list(parts.glob("*.csv"))) >= have + more:
            return
        time.sleep(0.001)


def test_a_torn_piece_or_a_dead_join_is_made_anew(tmp_path: Path) -> None:
    reference, out = tmp_path / "whole.csv", tmp_path / "again.csv"
    run_sweep(SWEEP, str(reference))
    run_sweep(msgspec.structs.replace(SWEEP), str(out))
    parts = out.with_name(f"{out.name}.parts")
    process = victim(out)
    _wait_for_more(parts, 5, process)
    process.kill()
    process.wait()
    parts.mkdir(exist_ok=True)
    (parts / "00000003.tmp").write_bytes(b"half a line")
    (parts / "whole.tmp").write_bytes(b"half a result")
    kept = run_sweep(SWEEP, str(out))
    assert kept.points < len(DESIGN), "what was there was not worked out again"
    assert out.read_bytes() == reference.read_bytes()


def test_another_sweep_does_not_go_on_with_these_pieces(tmp_path: Path) -> None:
    out = tmp_path / "points.csv"
    process = victim(out)
    _wait_for_more(out.with_name(f"{out.name}.parts"), 2, process)
    process.kill()
    process.wait()
    for other in ({"given": "ideal"}, {"arrival": "closed_loop"}, {"piece": 200}):
        with pytest.raises(ConfigError, match="belongs to another sweep"):
            run_sweep(msgspec.structs.replace(SWEEP, **other), str(out))


def test_the_file_holds_every_point_once(tmp_path: Path) -> None:
    out = tmp_path / "points.csv"
    kept = run_sweep(SWEEP, str(out))
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == len(DESIGN) == kept.points
    assert kept.fit == sum(row["fits"] == "yes" for row in rows)
    points = DESIGN.at(0, len(DESIGN))
    for name in ("batch", "input_tokens", "tp"):
        assert [int(row[name]) for row in rows] == points[name].tolist()
    for row in rows:
        assert (row["ttft_ms"] != "") == (row["fits"] == "yes")
        assert row["fits"] == "no" or row["tp"] != "3"


def test_a_spelling_is_read_back() -> None:
    assert sweep_from(SWEEP.described()) == SWEEP


def test_parquet_holds_what_csv_holds(tmp_path: Path) -> None:
    reader = pytest.importorskip("pyarrow.parquet")
    run_sweep(SWEEP, str(tmp_path / "points.parquet"))
    run_sweep(SWEEP, str(tmp_path / "points.csv"))
    table = reader.read_table(tmp_path / "points.parquet").to_pylist()
    for row, held in zip(
        csv.DictReader((tmp_path / "points.csv").read_text().splitlines()), table, strict=True
    ):
        assert int(row["batch"]) == held["batch"]
        assert (row["fits"] == "yes") == held["fits"]
        assert row["ttft_ms"] == ("" if held["ttft_ms"] is None or not held["fits"]
                                  else f"{held['ttft_ms']:.7g}")  # fmt: skip
    again = tmp_path / "again.parquet"
    run_sweep(SWEEP, str(again))
    assert again.read_bytes() == (tmp_path / "points.parquet").read_bytes()


def test_other_endings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.csv or \.parquet"):
        run_sweep(SWEEP, str(tmp_path / "points.txt"))


@pytest.mark.filterwarnings("default")
def test_a_cluster_of_two_workers_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *sys.path]))
    run_sweep(SWEEP, str(tmp_path / "local.csv"))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        run_sweep(SWEEP, str(tmp_path / "cluster.csv"), "ray")
    finally:
        ray.shutdown()
    assert (tmp_path / "cluster.csv").read_bytes() == (tmp_path / "local.csv").read_bytes()


def test_without_ray_the_remedy_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"plumbline\[cluster\]"):
        run_sweep(SWEEP, str(tmp_path / "points.csv"), "ray")
