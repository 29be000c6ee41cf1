"""Rates read back from the engine's own records."""

from __future__ import annotations

import json

import pytest

from analyzer.errors import DataError
from analyzer.offload_shapes import tensor_B, tensors
from calibration.offload_records import machine_from_records
from profilers.offload.engine import OffloadEngine
from profilers.offload.profile import OffloadOptions, run_profile
from profilers.offload.spec import read_spec

from .measured import CONFIG, EMULATED


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    folder = tmp_path_factory.mktemp("profile")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    rates = {"h2d": 4e8, "d2h": 2e8, "disk_read": 3e8, "disk_write": 1e8, "gpu": 2e10, "cpu": 5e8}
    options = OffloadOptions(
        model=str(folder), random_weights=True, percent=(0, 50, 0, 50, 50, 50),
        gpu_batch_size=4, num_gpu_batches=2, prompt_len=16, gen_len=4, overlap=False,
        cpu_cache_compute=True, dtype="float32", device="cpu", warmup=False,
        offload_dir=str(folder / "spill"), emulate=rates,
    )  # fmt: skip
    return rates, run_profile(options)


def test_emulated_rates_come_back(profiled):
    """Sleeping never ends early, so a rate that is read back is at most the one emulated."""
    rates, profile = profiled
    dims = read_spec(CONFIG).dims
    machine, told = machine_from_records(EMULATED, profile.records, dims, 4)
    names = {
        "h2d": "h2d_Bps", "d2h": "d2h_Bps", "disk_read": "disk_read_Bps",
        "disk_write": "disk_write_Bps", "gpu": "gpu_flops", "cpu": "cpu_attention_Bps",
    }  # fmt: skip
    assert set(names.values()) | {"hbm_Bps", "attention_flops"} == set(told)
    for link, name in names.items():
        found = getattr(machine, name)
        assert 0 < found < 1.001 * rates[link], name


def test_memory_rate_counts_every_weight_once_per_micro_batch(profiled):
    _, profile = profiled
    dims = read_spec(CONFIG).dims
    machine, _ = machine_from_records(EMULATED, profile.records, dims, 4)
    stage = next(
        record
        for record in profile.records
        if (record.case.get("stage"), record.case.get("phase")) == ("compute", "decode")
    )
    weights = sum(tensor_B(t, 4, 16) for t in tensors(dims) if t.kind != "table")
    assert stage.metrics["jobs_count"] == 3 * 2 * (dims.layers + 1)
    assert machine.hbm_Bps == pytest.approx(6 * weights / stage.metrics["busy_s"])


def test_records_of_other_kinds_are_not_enough(profiled):
    with pytest.raises(DataError, match="profile offload"):
        machine_from_records(EMULATED, profiled[1].records[:1], read_spec(CONFIG).dims, 4)


def test_engine_and_options_agree_on_the_policy(profiled, tmp_path):
    policy = OffloadOptions(model="x", percent=(1, 2, 3, 4, 5, 6), gpu_batch_size=3).policy
    with OffloadEngine(
        CONFIG, policy, random_weights=True, device="cpu", offload_dir=tmp_path / "s"
    ) as engine:
        shares = engine.realised_B()
    assert sum(shares.values()) == sum(tensor_B(t, 2, 16) for t in tensors(read_spec(CONFIG).dims))
