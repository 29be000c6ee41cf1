"""The campaign script from its command line to data files, with real workers, on this CPU."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from test_profiler_planning import CPU

from analyzer.basis import Basis
from analyzer.records_codec import decode_record
from analyzer.systems_catalog import load_system
from calibration.corpus.profiled import load_profiled
from calibration.machine_fit import fit_records
from profilers import check, gauge
from profilers.model_shapes import CHECK_MODELS
from profilers.options import Options
from profilers.planning import plan
from profilers.reading import load_records
from reports.held_out import compare

SCRIPT = Path(__file__).parents[2] / "scripts" / "campaign_gpu.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("campaign_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_campaign_becomes_data_and_resumes(script, tmp_path, capsys):
    command = [
        "--device", "cpu", "--size", "tiny", "--name", "box", "--profile", "collectives",
        "--threads", "1", "--budget-s", "3600", "--retake-s", "0", "--hardware", "this-box",
        "--store", str(tmp_path / "store"), "--out", str(tmp_path),
    ]  # fmt: skip
    assert script.main(command) == 0
    records = load_records(tmp_path / "store")
    assert {record.case["op"] for record in records} == {
        "allreduce", "allgather", "reducescatter", "alltoall", "broadcast", "p2p",
    }  # fmt: skip
    for record in records:
        assert record.metrics["latency_s"] > 0, record.flags
        assert record.scenario.hardware == "this-box"
        assert record.environment["threads"] == "1"
        assert record.provenance.definitions["latency_s"]
    path = tmp_path / "benchmark-perf" / "box" / "collective.jsonl"
    lines = path.read_text().splitlines()
    assert tuple(decode_record(line) for line in lines) == records
    assert "no system file" in capsys.readouterr().out
    assert script.main(command) == 0
    assert f"0 measured, 0 failed, {len(records)} done before" in capsys.readouterr().out


def test_the_whole_campaign_and_its_check_become_a_machine_of_the_report(script, tmp_path):
    command = [
        "--device", "cpu", "--size", "tiny", "--name", "box", "--dtypes", "bf16",
        "--models", "tiny-llama", "--threads", "1", "--budget-s", "3600", "--check-s", "3600",
        "--retake-s", "0", "--store", str(tmp_path / "store"), "--out", str(tmp_path),
    ]  # fmt: skip
    assert script.main(command) == 0
    (machine,) = load_profiled(tmp_path / "benchmark-perf")
    taken = {record.kind for record in machine.records}
    assert taken == {"operator", "link", "collective", "layer", "e2e"}
    asked = plan("all", Options(store="x", device="cpu", size="tiny", dtypes=("bf16",),
                                models=("tiny-llama",), threads=1), CPU)  # fmt: skip
    memory = (tmp_path / "benchmark-mem" / "box" / "memory.jsonl").read_text().splitlines()
    assert len(machine.records) + len(memory) == len(asked)
    whole = [record for record in machine.check if record.kind == "e2e"]
    assert {record.scenario.model for record in whole} == set(CHECK_MODELS["tiny"])
    (fitted,) = fit_records(machine.records, str(machine.system), doubtful=True)
    rates = Basis(fitted.calibration.to_rates(), "box", "default", fitted.calibration)
    system = load_system(machine.system)
    found = compare(machine.check, system, str(machine.system), True, lambda _: rates)
    assert len(found.rows) * check.REPEATS["cpu"] == len(whole)
    gauged = len(machine.check) - len(whole)
    assert gauged == len(gauge.PIECES) * check.REPEATS["cpu"]
    assert set(found.drift) == set(gauge.PIECES)
    for row in found.rows:
        assert np.isfinite([row.measured, row.predicted, row.noise]).all()


def test_a_users_mistake_is_one_line(script, tmp_path, capsys):
    command = ["--device", "cuda:99x", "--name", "box", "--store", str(tmp_path)]
    assert script.main(command) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert "Traceback" not in shown
    assert len(shown.splitlines()) == 1
