"""A calibration that is written is the one that is read, or nothing is written at all."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
from calibration_synthetic import records, scenarios

from analyzer.answer import answer
from analyzer.basis import calibrated
from analyzer.calibrated import calibrations, find, load_calibration
from analyzer.models_catalog import load as load_model
from analyzer.plan import Plan
from analyzer.strict import decode_toml
from analyzer.system import System
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload
from calibration.collect import Collected, collect
from calibration.corpus import PERF_DIR
from calibration.export import digest, to_toml, write
from calibration.problem import predict
from calibration.run import Outcome, calibrate_collected

SYSTEM = "A100-SXM-80GB"


@pytest.fixture(scope="module")
def collected() -> Collected:
    return collect(records(scenarios(SYSTEM, batches=(1, 16), inputs=(128, 2048), tps=(1, 2))))


@pytest.fixture(scope="module")
def done(collected: Collected) -> Outcome:
    (outcome,) = calibrate_collected(SYSTEM, collected)
    return outcome


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLUMBLINE_RATES", str(tmp_path))
    return tmp_path


def test_what_is_written_is_found_and_predicts_the_same(done: Outcome, folder: Path) -> None:
    write(done.calibration, folder)
    found = find(SYSTEM, done.group.engine)
    assert found.warnings == ()
    assert found.calibration == done.calibration
    problem = done.group.problem
    again = predict(problem, found.calibration.to_rates())
    assert again == pytest.approx(predict(problem, done.fitted.fit.rates), rel=1e-4)


def test_predictions_through_the_front_door_use_it(done: Outcome, folder: Path) -> None:
    write(done.calibration, folder)
    system: System = load_system(SYSTEM)
    basis = calibrated(system, done.group.engine)
    assert basis.calibration == done.calibration
    case = done.group.problem.cases[0]
    load = Workload(
        batch=int(case.workload.batch),
        input_tokens=int(case.workload.input_tokens),
        output_tokens=int(case.workload.output_tokens),
    )
    plan = Plan(tp=int(case.plan.tp), weights="fp16", engine=done.group.engine)
    told = answer(load_model(case.model.name), system, plan, load, basis).prediction
    fitted = predict(done.group.problem, done.fitted.fit.rates)[0]
    assert [float(told.ttft_s), float(told.tpot_s)] == pytest.approx(fitted[:2].tolist(), rel=1e-3)


def test_ones_own_comes_before_what_is_shipped(done: Outcome, folder: Path) -> None:
    shipped = load_calibration(SYSTEM, "vllm-v0")
    assert shipped is not None
    write(msgspec.structs.replace(done.calibration, engine="vllm-v0"), folder)
    mine = load_calibration(SYSTEM, "vllm-v0")
    assert mine is not None
    assert mine.data_sha256 == done.calibration.data_sha256 != shipped.data_sha256
    assert (SYSTEM, "vllm-v0") in calibrations()


def test_the_text_says_all_and_parses_back(done: Outcome, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(to_toml(done.calibration), encoding="utf-8")
    assert decode_toml(path, type(done.calibration)) == done.calibration
    assert done.calibration.hull is not None
    assert done.calibration.hull.devices == (1, 2)
    assert set(done.calibration.system_eff) == {"overall", "prefill", "decode"}
    assert all(0 < value <= 1 for value in done.calibration.system_eff.values())


def test_intervals_hold_their_values(done: Outcome) -> None:
    for name, rate in done.calibration.rates.items():
        assert rate.low <= rate.value <= rate.high, name
        assert 0.0 <= rate.data_share <= 1.0, name
        assert not (rate.identified and rate.data_share < 0.5), name


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_failure_on_the_way_leaves_the_old_file_whole(
    failing: str, done: Outcome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(done.calibration, tmp_path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    if failing == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    else:
        monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write(msgspec.structs.replace(done.calibration, rows=1), tmp_path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path], "nothing half-written is left"


def test_the_hash_is_of_the_rows_whatever_their_order(collected: Collected) -> None:
    (group,) = collected.groups.values()
    assert digest(group.records) == digest(tuple(reversed(group.records)))
    assert digest(group.records) != digest(group.records[1:])


def test_the_shipped_calibrations_are_physical() -> None:
    for system, engine in calibrations():
        held = load_calibration(system, engine)
        assert held is not None
        assert np.isfinite(held.condition)
        for name, rate in held.rates.items():
            if name.endswith("_eff"):
                assert 0 < rate.value <= 1.0, (system, engine, name)


def test_published_rows_can_be_left_out(tmp_path: Path) -> None:
    from calibration.run import gathered

    own = records(scenarios("RTX3090", ("llama-2-7b",), batches=(1,), inputs=(512,), tps=(1,)))
    alone = gathered("RTX3090", own, data=tmp_path / "none")
    beside = gathered("RTX3090", own, data=PERF_DIR)
    assert {key[1] for key in alone.groups} < {key[1] for key in beside.groups}
