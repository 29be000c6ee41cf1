"""A design space is its points: axes change nothing but the time it takes."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest

from analyzer import basis
from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.sweep import METRICS, Grid, sweep
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload
from reports.commands.sweep import axis
from tests.cli.shell import Shell

GRID = Grid(
    batch=(1, 3, 64, 4000),
    input_tokens=(16, 1000, 8000),
    output_tokens=(1, 2, 190),
    tp=(1, 2, 8),
    weights=("bf16", "fp8", "int4-awq-g128"),
)


@pytest.mark.parametrize("name", ["llama-3-8b", "mixtral-8x7b", "gemma-3-12b"])
def test_every_point_is_what_one_prediction_says(name: str) -> None:
    model, system, rates = load(name), load_system("H100-SXM"), basis.single(0.7)
    swept = sweep(model, system, GRID, rates)
    rng = np.random.default_rng(7)
    for flat in rng.choice(math.prod(GRID.shape), 40, replace=False):
        place = np.unravel_index(flat, GRID.shape)
        weights, batch, prompt, answer, ranks = (
            axis[index]
            for axis, index in zip(
                (GRID.weights, GRID.batch, GRID.input_tokens, GRID.output_tokens, GRID.tp),
                place,
                strict=True,
            )
        )
        plan = Plan(tp=int(ranks), weights=str(weights))
        load_ = Workload(batch=batch, input_tokens=prompt, output_tokens=answer)
        if model.max_context is not None and prompt + answer > model.max_context:
            assert np.isnan(swept.columns["ttft_s"][place])
            continue
        one = predict(model, system, plan, load_, rates.rates, queue=False, strict=False)
        for metric in METRICS:
            alone = one.memory.total_B if metric == "memory_B" else getattr(one, metric)
            assert np.isclose(
                swept.columns[metric][place], float(alone), rtol=1e-12, atol=0.0, equal_nan=True
            )


def test_chunks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    model, system, rates = load("llama-3-8b"), load_system("H100-SXM"), basis.ideal()
    whole = sweep(model, system, GRID, rates)
    monkeypatch.setattr("analyzer.sweep.CHUNK", 1)
    pieces = sweep(model, system, GRID, rates)
    for metric in METRICS:
        np.testing.assert_array_equal(whole.columns[metric], pieces.columns[metric])


def test_what_cannot_be_laid_out_is_refused_before_the_work() -> None:
    model, system = load("llama-3-8b"), load_system("H100-SXM")
    with pytest.raises(ConfigError, match="tp=3 does not divide"):
        sweep(model, system, GRID._replace(tp=(1, 3)), basis.ideal())
    with pytest.raises(ConfigError, match="no values for tp"):
        sweep(model, system, GRID._replace(tp=()), basis.ideal())


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("4", (4,)),
        ("1,2,4", (1, 2, 4)),
        ("1:4", (1, 2, 3, 4)),
        ("0:512:128", (128, 256, 384, 512)),
        ("2:8:3,1", (2, 5, 8, 1)),
        ("1,1", (1,)),
    ],
)
def test_axes_as_they_are_written(text: str, values: tuple[int, ...]) -> None:
    assert axis("batch", text) == values


@pytest.mark.parametrize("text", ["", "0", "x", "1:2:3:4", "1:2:0", "4:1", "-3", "1;2", "²"])
def test_axes_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="batch"):
        axis("batch", text)


def test_a_grid_becomes_a_table(plumbline: Shell, tmp_path: Path) -> None:
    out = tmp_path / "grid.csv"
    words = "--batch 1:3 --input 64,128 --output 32 --tp 1,2 --weights bf16,fp8 --uncalibrated"
    said = plumbline(f"sweep --model llama-3-8b --system H100-SXM {words} --out {out} --json")
    assert said.code == 0
    assert said.json["points"] == said.json["fit"] == 24
    with open(out, newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 24
    chosen = next(r for r in rows if (r["weights"], r["batch"], r["tp"]) == ("fp8", "3", "2"))
    words = "--tp 2 --batch 3 --weights fp8 --input 64 --output 32 --uncalibrated --json"
    one = plumbline(f"predict --model llama-3-8b --system H100-SXM {words}").json
    assert math.isclose(float(chosen["tpot_ms"]), one["tpot_s"] * 1e3, rel_tol=1e-6)
    assert math.isclose(float(chosen["memory_gb"]), one["memory_B"]["total"] / 1e9, rel_tol=1e-6)


def test_lists_of_the_catalog(plumbline: Shell) -> None:
    models = plumbline("models deepseek --json").json
    assert {"deepseek-v3", "deepseek-r1"} <= {found["model"] for found in models}
    systems = plumbline("systems rtx3090 --json").json
    assert "RTX3090" in {found["system"] for found in systems}
    cited = plumbline("systems --sources RTX3090 --json").json["figures"]
    assert cited["device.memory_bandwidth_Bps"]["value"] == 936e9
    assert all(figure["source"] for figure in cited.values())
    assert plumbline("models no-such-thing").code == 2
    assert "llama-3-8b" in plumbline("models llama-3").out


def test_help_and_version(plumbline: Shell) -> None:
    assert "predict" in plumbline("").out
    assert "--acceptance" in plumbline("predict --help").out
    assert plumbline("--help").code == 0


def test_calibrations_are_listed(plumbline: Shell, own_rates: Path) -> None:
    listed = plumbline("calibrations RTX3090 --json").json
    mine = next(one for one in listed if one["engine"] == "vllm-v1")
    assert mine["rates"]["mem_eff"]["value"] == 0.8
    shown = plumbline("calibrations RTX3090")
    assert "5.0%" in shown.out
    assert "mem_eff" in shown.out
