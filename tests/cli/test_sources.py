"""`--source`: whoever times an operator is named, whatever falls back is counted."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analyzer.sources.operator_rows import NUMBERS, OperatorRows
from analyzer.sources.operator_work import shape_rows
from analyzer.sources.table import chip_of
from analyzer.systems_catalog import load_system
from analyzer.timing.kernels import FORMS
from tests.cli.shell import Shell

H100 = load_system("H100-SXM")
ASKED = "predict --model llama-3-8b --system H100-SXM --batch 8 --input 512 --output 64"
SLOWER = 1.25
"""How much slower than the default kernel forms the made-up machine of the table is."""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Rows of matrix multiplications and of decode attention on an H100, from the kernel forms."""
    made = {
        "gemm": {
            "m": [1, 2, 4, 8, 16, 64, 256, 1024, 4096, 8192],
            "n": [1024, 4096, 6144, 14336, 28672, 131072],
            "k": [1024, 4096, 14336],
        },
        "attn_decode": {
            "batch": [1, 2, 4, 8, 16, 32],
            "q_len": [1],
            "kv_len": [128, 512, 1024, 4096],
            "n_heads": [8, 32, 64],
            "n_kv_heads": [2, 8],
            "head_dim": [128],
        },
    }
    path = tmp_path / "mine.csv"
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, ("hardware", "op", "dtype", *NUMBERS, "latency_s", "notes"))
        writer.writeheader()
        for op, axes in made.items():
            for row in _rows(op, axes):
                writer.writerow(row)
    return path


def _rows(op: str, axes: dict[str, list[int]]) -> list[dict[str, Any]]:
    grid = np.meshgrid(*(np.asarray(axis, dtype=float) for axis in axes.values()), indexing="ij")
    columns = {name: part.ravel() for name, part in zip(axes, grid, strict=True)}
    count = len(columns[next(iter(axes))])
    text = {name: np.full(count, "", dtype="U8") for name in ("kv_dtype", "cache", "kernel")}
    numbers = {name: columns.get(name, np.full(count, np.nan)) for name in NUMBERS}
    chip = chip_of(H100, "bf16")
    shaped = shape_rows(OperatorRows(text, numbers, np.ones(count)), op, "bf16", chip)
    seconds = SLOWER * FORMS[op].time(shaped.work, chip, FORMS[op].params())
    kv = "kv=bf16;" if op == "attn_decode" else ""
    return [
        {name: f"{values[row]:.0f}" for name, values in columns.items()}
        | {"hardware": "H100-SXM", "op": op, "dtype": "bf16", "latency_s": f"{seconds[row]:.9g}"}
        | {"notes": f"{kv}fw=made"}
        for row in range(count)
    ]


def test_every_operator_says_who_timed_it(plumbline: Shell, table: Path) -> None:
    said = plumbline(ASKED, "--source", f"table:{table},analytic", "--json --detail")
    assert said.code == 0, said.err
    found = said.json
    by = {line["name"]: line["source"] for line in found["operators"] if line["phase"] == "decode"}
    assert {by[name] for name in ("attention.qkv", "ffn.up", "attention.core")} == {"table"}
    assert {by["norms"], by["sampling"]} == {"analytic"}
    for phase in ("prefill", "decode"):
        held = found["sources"][phase]
        assert sum(held["share_of_time"].values()) == pytest.approx(1.0)
        silent = sum(held["remarks"]["table"][reason] for reason in held["remarks"]["table"]
                     if "no measured class" in reason or "far beyond" in reason)  # fmt: skip
        assert held["operators"]["analytic"] == silent
    asked = found["sources"]["asked"]
    assert [rung.partition(":")[0] for rung in asked] == ["table", "analytic"]
    assert found["sources"]["decode"]["share_of_time"]["table"] > 0.5


def test_times_are_the_tables_and_the_interval_is_its_doubt(plumbline: Shell, table: Path) -> None:
    words = ("--source", f"table:{table},analytic", "--uncalibrated --json --detail")
    found = plumbline(ASKED, *words).json
    low, high = (found["interval"]["tpot_s"][end] for end in ("low", "high"))
    assert low < found["tpot_s"] < high
    assert found["interval"]["ttft_s"]["level"] == 0.9
    lines = [line for line in found["operators"] if line["phase"] == "decode"]
    measured = [line for line in lines if line["source"] == "table"]
    assert all(line["uncertainty"] < 0.2 for line in measured)
    listed = sum(line["time_s"] for line in lines)
    assert listed == pytest.approx(found["tpot_s"], rel=1e-6)


def test_one_row_one_point_and_one_scenario_agree(
    plumbline: Shell, table: Path, tmp_path: Path
) -> None:
    ladder = f"table:{table},analytic"
    alone = plumbline(ASKED, "--uncalibrated --source", ladder, "--json").json
    grid, rows, out = tmp_path / "grid.csv", tmp_path / "rows.csv", tmp_path / "out.csv"
    swept = plumbline(
        "sweep --model llama-3-8b --system H100-SXM --batch 8 --input 512 --output 64",
        f"--uncalibrated --source {ladder} --out {grid} --json",
    )
    assert swept.code == 0, swept.err
    (point,) = csv.DictReader(grid.read_text().splitlines())
    assert float(point["tpot_ms"]) == pytest.approx(1e3 * alone["tpot_s"], rel=1e-5)
    assert float(point["by_table"]) + float(point["by_analytic"]) == pytest.approx(1.0)
    assert swept.json["sources"]["share_of_time"]["table"] == pytest.approx(
        float(point["by_table"]), rel=1e-6
    )
    rows.write_text(
        "hardware,model,input_tokens,output_tokens,batch,arrival\n"
        "H100-SXM,llama-3-8b,512,64,8,static\nH100-SXM,llama-3-8b,512,64,2,static\n"
    )
    done = plumbline(f"predict --csv {rows} --out {out} --uncalibrated --source {ladder}")
    assert done.code == 0, done.err
    first, second = csv.DictReader(out.read_text().splitlines())
    assert float(first["pred_tpot_ms"]) == pytest.approx(1e3 * alone["tpot_s"], rel=1e-5)
    assert float(first["pred_tpot_ms_lo"]) == pytest.approx(
        1e3 * alone["interval"]["tpot_s"]["low"], rel=1e-5
    )
    assert "operators' times: table" in second["pred_note"]


def test_what_cannot_be_asked_is_one_line(plumbline: Shell, table: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.csv"
    empty.write_text("hardware,op,dtype,m,n,k,latency_us\nA100-SXM4-80GB,gemm,bf16,1,8,8,3\n")
    for ladder, said in (
        ("tabel,analytic", "did you mean table"),
        (f"table:{table}", "no source among table knows"),
        (f"table:{empty},analytic", "no rows of NVIDIA H100"),
        (f"table:{tmp_path}/none.csv", "none.csv"),
        ("analytic:fast", "takes nothing after a colon"),
        ("scalesim,analytic", "does not describe its arrays"),
        ("measured,analytic", "measured: this machine"),
    ):
        refused = plumbline(ASKED, "--source", ladder)
        assert refused.code == 2, ladder
        assert refused.err.count("\n") == 1
        assert said in refused.err
    refused = plumbline(ASKED, "--software vllm")
    assert refused.code == 2
    assert "--software needs --source" in refused.err


def test_the_list_says_what_is_missing(plumbline: Shell) -> None:
    def listed(system: str) -> dict[str, Any]:
        rows = plumbline(f"sources --system {system} --json").json["sources"]
        return {row["source"]: row for row in rows}

    tpu, t4 = listed("TPUv6e"), listed("T4")
    assert tpu["analytic"]["here"]
    assert tpu["scalesim"]["here"]
    assert not tpu["table:sglang"]["here"]
    assert not t4["residual"]["here"]
    assert "no operator fits" in t4["residual"]["has"]
    assert "add [device.systolic]" in t4["scalesim"]["has"]
