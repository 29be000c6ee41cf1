"""The model of FlexGen's schedule against what FlexGen published on one T4."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from analyzer.offload_flexgen import (
    FlexGenForecast,
    FlexGenRun,
    forecast_flexgen,
    realised_by_midpoints,
)
from analyzer.offload_known import FLEXGEN_T4, FLEXGEN_T4_QUIRKS, opt_dims
from analyzer.offload_machine import OffloadMachine
from calibration.offload_fit import Observation, fit_machine, geomean_error, log_errors

DATA = Path(__file__).parents[2] / "benchmark-perf" / "offload" / "policies" / "T4.csv"
ALL_GPU = ((2, 512, 25.26), (1, 1024, 13.72), (4, 256, 53.29))  # OPT-6.7B, arXiv:2303.06865


def read_run(row: dict[str, str]) -> tuple[str, FlexGenRun, float]:
    def parts(*names: str) -> list[float]:
        values = [float(row[name]) / 100 for name in names]
        return [*values, 1 - sum(values)] if len(values) == 2 else values

    tiers = [f"realised_weights_{tier}" for tier in ("gpu", "cpu", "disk")]
    run = FlexGenRun(
        prompt_len=int(row["prompt"]),
        gen_len=int(row["output"]),
        gpu_batch=int(row["gpu_batch"]),
        num_gpu_batches=int(row["gpu_batches"]),
        weights=parts(*tiers),
        kv=parts("cache_gpu", "cache_cpu"),
        act_gpu=float(row["act_gpu"]) / 100,
        cpu_attention=float(row["cache_gpu"]) < 100,
    )
    return row["model"], run, float(row["generated_tok_s"])


with DATA.open() as file:
    PUBLISHED = [read_run(row) for row in csv.DictReader(file)]
ON_GPU = [
    (
        "opt-6.7b",
        FlexGenRun(
            prompt_len=prompt, gen_len=32, gpu_batch=batch, num_gpu_batches=1,
            weights=(1, 0, 0), kv=(1, 0, 0), act_gpu=1.0, cpu_attention=False,
        ),
        tok_s,
    )
    for batch, prompt, tok_s in ALL_GPU
]  # fmt: skip


def observe(cases: list[tuple[str, FlexGenRun, float]]) -> list[Observation]:
    def one(model: str, run: FlexGenRun, tok_s: float) -> Observation:
        dims = opt_dims(model)

        def predict(machine: OffloadMachine) -> float:
            return forecast_flexgen(dims, run, machine, FLEXGEN_T4_QUIRKS).tok_s

        return Observation(tok_s, predict)

    return [one(*case) for case in cases]


ON_CPU = observe([case for case in PUBLISHED if case[1].weights[2] == 0])
ON_DISK = observe([case for case in PUBLISHED if case[1].weights[2] > 0])
GPU_ONLY = observe(ON_GPU)


def test_the_data_are_the_eleven_policies():
    assert len(ON_CPU) == 7
    assert len(ON_DISK) == 4


def test_shipped_rates_meet_every_group():
    errors = {
        "cpu": geomean_error(log_errors(FLEXGEN_T4, ON_CPU)),
        "disk": geomean_error(log_errors(FLEXGEN_T4, ON_DISK)),
        "gpu": geomean_error(log_errors(FLEXGEN_T4, GPU_ONLY)),
    }
    assert errors["cpu"] <= 0.07, errors
    assert errors["disk"] <= 0.02, errors
    assert errors["gpu"] <= 0.10, errors


def test_two_rates_fit_ten_runs_and_one_more_fits_the_disk_runs():
    fit = fit_machine(FLEXGEN_T4, ["cpu_attention_Bps", "hbm_Bps"], ON_CPU + GPU_ONLY)
    assert geomean_error(fit.errors[:7]) <= 0.07
    assert geomean_error(fit.errors[7:]) <= 0.10
    disk = fit_machine(fit.machine, ["disk_read_Bps"], ON_DISK)
    assert disk.geomean_error <= 0.02
    shipped = (FLEXGEN_T4.cpu_attention_Bps, FLEXGEN_T4.hbm_Bps, FLEXGEN_T4.disk_read_Bps)
    found = (fit.machine.cpu_attention_Bps, fit.machine.hbm_Bps, disk.machine.disk_read_Bps)
    assert found == pytest.approx(shipped, rel=0.02)


def test_each_run_is_foretold_by_the_others():
    """Leave one out: the error on runs that the fit has not seen."""
    left_out = []
    for n in range(7):
        others = ON_CPU[:n] + ON_CPU[n + 1 :] + GPU_ONLY
        fit = fit_machine(FLEXGEN_T4, ["cpu_attention_Bps", "hbm_Bps"], others)
        left_out.append(log_errors(fit.machine, [ON_CPU[n]])[0])
    assert geomean_error(left_out) <= 0.07


def flagship(model: str) -> FlexGenForecast:
    run = next(run for name, run, _ in PUBLISHED if name == model)
    return forecast_flexgen(opt_dims(model), run, FLEXGEN_T4, FLEXGEN_T4_QUIRKS)


@pytest.mark.parametrize(
    ("model", "prefill_tok_s", "decode_tok_s", "block"),
    [("opt-30b", 304.7, 11.52, 144), ("opt-175b", 55.47, 0.83, 256)],
)
def test_phases_agree_too_though_only_totals_were_fitted(model, prefill_tok_s, decode_tok_s, block):
    got = flagship(model)
    assert got.prefill_s == pytest.approx(block * 512 / prefill_tok_s, rel=0.05)
    assert got.step_s == pytest.approx(block / decode_tok_s, rel=0.05)


def test_midpoint_rule_gives_the_realised_percents_that_were_found():
    """OPT's 20/80 is 8.2/91.8: halves and quarters of a layer are all that rule can do."""
    hidden = 7168
    attention = [hidden * hidden * 2] * 4
    mlp = [hidden * 4 * hidden * 2] * 2
    asked = (20, 80, 0)
    on_gpu = sum(
        size
        for layer in (attention, mlp)
        for size, home in zip(layer, realised_by_midpoints(layer, asked), strict=True)
        if home == 0
    )
    assert on_gpu / sum(attention + mlp) == pytest.approx(1 / 12, abs=1e-9)


def test_errors_of_a_perfect_model_are_zero():
    assert geomean_error(np.zeros(3)) == 0
