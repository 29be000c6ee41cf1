"""The forecast: against the engine's counts, against measured runs, and by its own laws."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.errors import ConfigError, NotIdentifiable
from analyzer.offload import asked_shares, case_of, forecast, forecast_plan, realised_shares
from analyzer.offload_counts import BlockPlan, stream_bytes
from analyzer.offload_machine import OffloadMachine
from analyzer.offload_memory import memory_rows
from analyzer.offload_policy import OffloadPolicy
from analyzer.offload_schedule import schedule
from analyzer.offload_shapes import OffloadDims
from calibration.offload_fit import Observation, fit_machine, geomean_error, log_errors
from profilers.offload.engine import OffloadEngine

from .measured import EMULATED, FITTED, measure, policies

DIMS = OffloadDims(
    layers=6, hidden=512, ffn=1536, heads=8, kv_heads=4, head_dim=64, vocab=1024, tied=False
)
GPU_24GB = OffloadMachine(
    h2d_Bps=25e9,
    d2h_Bps=24e9,
    disk_read_Bps=6e9,
    disk_write_Bps=3e9,
    hbm_Bps=9e11,
    gpu_flops=7e13,
    attention_flops=5e13,
    cpu_attention_Bps=4e10,
    unit_overhead_s=1e-4,
)
LLAMA_70B = OffloadDims(
    layers=80, hidden=8192, ffn=28672, heads=64, kv_heads=8, head_dim=128, vocab=128256
)
EXHAUSTIVE = os.environ.get("PLUMBLINE_EXHAUSTIVE", "")
percents = st.tuples(st.integers(0, 100), st.integers(0, 100)).map(
    lambda pair: (min(pair), max(pair) - min(pair))
)


@pytest.mark.parametrize("policy", policies(9))
def test_links_are_busy_for_the_counted_bytes(policy):
    """Time on a link is bytes over its rate, and the bytes are those of the event count."""
    plan = BlockPlan(DIMS, policy, 4, policy.block, 16)
    got = forecast_plan(plan, 5, replace(EMULATED, job_overhead_s=0.0)).busy_s
    streams = stream_bytes(plan, schedule(5, plan.unit_count, len(plan.batches)))
    minor = ("gather", "tokens")  # looked-up rows and token ids are too small to be modelled
    rates = {"h2d": 250e6, "d2h": 250e6, "disk_read": 1e9, "disk_write": 3e8}
    for link, rate in rates.items():
        counted = sum(
            size for (stage, where), size in streams.items() if where == link and stage not in minor
        )
        told = float(got[link]) * rate
        if policy.cpu_attention and policy.act_gpu_pct < 100:
            # Attended values of rows that the CPU attends do not rest; the forecast says they do.
            assert counted - 1 <= told <= 1.25 * counted
        else:
            assert told == pytest.approx(counted, rel=1e-9, abs=1)


def test_streaming_70b_takes_what_the_link_takes():
    policy = OffloadPolicy.from_percent((0, 100, 100, 0, 100, 0), gpu_batch=1)
    case = case_of(LLAMA_70B, policy, 2, 512, 33)
    got = forecast(case, GPU_24GB, asked_shares(policy))
    table = 2 * 128256 * 8192
    assert float(got.decode_s) / 32 == pytest.approx((141.1e9 - table) / 25e9, rel=0.005)
    assert got.bound == "h2d"


@settings(deadline=None, max_examples=40)
@given(percents, percents, percents, st.booleans(), st.booleans(), st.integers(1, 6))
def test_overlap_lies_between_the_busiest_resource_and_the_sum(w, kv, act, on_cpu, many, batch):
    policy = OffloadPolicy.from_percent(
        (*w, *kv, *act), gpu_batch=batch, num_gpu_batches=1 + 3 * many, cpu_attention=on_cpu
    )
    case = case_of(DIMS, policy, 4, 64, 8)
    shares = asked_shares(policy)
    together = forecast(case, EMULATED, shares)
    apart = forecast(replace(case, overlap=False), EMULATED, shares)
    longest = max(float(busy) for busy in together.busy_s.values())
    assert longest - 1e-9 <= float(together.total_s)
    assert float(together.total_s) <= float(apart.total_s) + 1e-9


@settings(deadline=None, max_examples=30)
@given(percents, percents, st.sampled_from(["h2d_Bps", "disk_read_Bps", "gpu_flops", "hbm_Bps"]))
def test_no_faster_part_makes_a_run_slower(w, kv, name):
    policy = OffloadPolicy.from_percent((*w, *kv, 100, 0), gpu_batch=4, num_gpu_batches=2)
    case = case_of(LLAMA_70B, policy, 2, 512, 8)
    before = forecast(case, GPU_24GB, asked_shares(policy))
    faster = replace(GPU_24GB, **{name: 2 * getattr(GPU_24GB, name)})
    after = forecast(case, faster, asked_shares(policy))
    assert float(after.total_s) <= float(before.total_s) + 1e-9


def test_many_placements_are_forecast_in_one_call():
    policy = OffloadPolicy(gpu_batch=4, num_gpu_batches=2)
    case = case_of(LLAMA_70B, policy, 2, 512, 32)
    shares = np.random.default_rng(0).dirichlet(np.ones(3), size=(7, 5, 3)).reshape(7, 5, 9)
    together = forecast(case, GPU_24GB, shares).total_s
    one = forecast(case, GPU_24GB, shares[3, 2]).total_s
    assert together.shape == (7, 5)
    assert together[3, 2] == pytest.approx(float(one))


def test_an_even_plan_is_forecast_as_its_shares_say():
    policy = OffloadPolicy.from_percent((0, 100, 50, 50, 100, 0), gpu_batch=4, num_gpu_batches=2)
    plan = BlockPlan(LLAMA_70B, policy, 2, policy.block, 512)
    by_unit = forecast_plan(plan, 8, GPU_24GB)
    by_share = forecast(case_of(LLAMA_70B, policy, 2, 512, 8), GPU_24GB, realised_shares(plan))
    assert float(by_unit.total_s) == pytest.approx(float(by_share.total_s), rel=1e-6)


def held_B(folder, policy: OffloadPolicy, tmp_path) -> tuple[int, int]:
    """Bytes of every buffer that the engine really allocated, on its device and in host memory."""
    config = folder
    with OffloadEngine(
        config,
        policy,
        random_weights=True,
        dtype="float32",
        device="cpu",
        offload_dir=tmp_path / "s",
    ) as engine:
        made: list[tuple[str, int]] = []
        plain, host = torch.empty, engine.weights.host.__class__.bytes

        def empty(*shape: object, **options: object) -> torch.Tensor:
            tensor = plain(*shape, **options)  # type: ignore[call-overload]
            if "device" in options:
                made.append(("gpu", tensor.nbytes))
            return tensor

        def buffer(memory: object, size_B: int) -> torch.Tensor:
            made.append(("cpu", size_B))
            return host(memory, size_B)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch, "empty", empty)
            patch.setattr(engine.weights.host.__class__, "bytes", buffer)
            engine.generate(torch.zeros(policy.block, 16, dtype=torch.int64), 4)
        weights = engine.weights
        gpu = sum(plane.nbytes for planes in weights.resident.values() for plane in planes)
        cpu = sum(span.numel() for span in weights.cpu_spans if span is not None)
    gpu += sum(size for place, size in made if place == "gpu")
    return gpu, cpu + sum(size for place, size in made if place == "cpu")


@pytest.mark.parametrize("policy", policies(5, seed=9))
def test_memory_forecast_covers_what_the_engine_allocates(policy, tmp_path):
    config = {
        "model_type": "llama", "hidden_size": 512, "intermediate_size": 1536,
        "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4,
        "vocab_size": 1024, "head_dim": 64, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }  # fmt: skip
    gpu, cpu = held_B(config, policy, tmp_path)
    plan = BlockPlan(DIMS, policy, 4, policy.block, 16)
    case = case_of(DIMS, policy, 4, 16, 4)
    shares = realised_shares(plan)
    told = memory_rows(case).at(shares)
    assert gpu <= told[0] * 1.02, (gpu, told)
    assert cpu <= told[1] * 1.02 + 1e5, (cpu, told)


def test_a_machine_needs_positive_rates():
    with pytest.raises(ConfigError, match="h2d_Bps"):
        replace(GPU_24GB, h2d_Bps=0.0)


def test_fit_recovers_rates_from_their_own_forecasts():
    truth = replace(EMULATED, disk_read_Bps=4e8, cpu_attention_Bps=5e7, job_overhead_s=1e-3)
    data = []
    for policy in policies(24, seed=2):
        plan = BlockPlan(DIMS, policy, 4, policy.block, 16)

        def predict(machine: OffloadMachine, plan: BlockPlan = plan) -> float:
            return float(forecast_plan(plan, 6, machine).total_s)

        data.append(Observation(predict(truth), predict))
    fit = fit_machine(EMULATED, ["disk_read_Bps", "cpu_attention_Bps", "job_overhead_s"], data)
    assert fit.geomean_error < 1e-3
    assert fit.machine.disk_read_Bps == pytest.approx(4e8, rel=0.01)
    assert fit.machine.cpu_attention_Bps == pytest.approx(5e7, rel=0.01)
    assert fit.machine.job_overhead_s == pytest.approx(1e-3, rel=0.01)


def test_fit_refuses_what_the_data_cannot_tell():
    policy = OffloadPolicy.from_percent((0, 100, 100, 0, 100, 0), gpu_batch=2)
    plan = BlockPlan(DIMS, policy, 4, policy.block, 16)
    data = [Observation(1.0, lambda machine: float(forecast_plan(plan, 6, machine).total_s))] * 3
    with pytest.raises(NotIdentifiable, match="disk_read_Bps"):
        fit_machine(EMULATED, ["disk_read_Bps"], data)
    with pytest.raises(NotIdentifiable, match="determine"):
        fit_machine(EMULATED, ["h2d_Bps"] * 4, data)


@pytest.mark.skipif(EXHAUSTIVE not in ("all", "forecast"), reason="PLUMBLINE_EXHAUSTIVE=forecast")
def test_forecast_of_measured_policies_fitted_on_a_third(tmp_path):
    runs = [measure(policy, tmp_path).observation for policy in policies(36)]
    fit = fit_machine(EMULATED, FITTED, runs[::3])
    unseen = [run for n, run in enumerate(runs) if n % 3]
    errors = log_errors(fit.machine, unseen)
    print(f"fitted {fit.machine}")
    print(f"seen {fit.geomean_error:.4f} unseen {geomean_error(errors):.4f}", np.round(errors, 3))
    assert geomean_error(errors) <= 0.10
