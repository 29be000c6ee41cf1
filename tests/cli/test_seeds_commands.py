"""What the users of the tools that came before can ask here: the same words, sounder answers."""

from __future__ import annotations

import math

import pytest

from analyzer.models_catalog import load
from analyzer.phases import count_decode, count_prefill, lay
from analyzer.plan import Plan
from analyzer.workload import Workload
from tests.cli.shell import Shell

SYSTEMS = {
    "A100_40GB_GPU": 8,
    "A100_80GB_GPU": 8,
    "H100_GPU": 8,
    "RTX3090_GPU": 8,
    "RTX4090_GPU": 8,
    "MI300X": 8,
    "TPUv6": 8,
}
"""The table of systems that came with the older tools, under the very names, and ranks for 70B."""


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(("model", "params"), [("llama2_7b", 6.738e9), ("llama2_70b", 68.98e9)])
def test_llama_2_on_every_system(plumbline: Shell, system: str, model: str, params: float) -> None:
    ranks = 1 if model == "llama2_7b" else SYSTEMS[system]
    words = f"--tp {ranks} --batch 1 --input 1024 --output 200 --system_eff 0.6 --json"
    found = plumbline(f"predict --model {model} --system {system} {words}").json
    assert math.isclose(found["params"], params, rel_tol=1e-3)
    assert found["fits"]
    assert found["devices"] == ranks
    assert 0 < found["tpot_s"] < found["ttft_s"] < found["e2e_s"]
    weights_B = found["memory_B"]["weights"] * ranks
    assert math.isclose(weights_B, 2.0 * params, rel_tol=0.01)


@pytest.mark.parametrize("weights", ["bf16", "int8", "int4", "fp16"])
def test_formats_by_their_names(plumbline: Shell, weights: str) -> None:
    words = f"--tp 1 --weights {weights} --system_eff 0.6 --json"
    found = plumbline(f"predict --model llama2_7b --system RTX3090_GPU {words}").json
    assert found["plan"]["weights"] == weights


def test_beams_and_batches(plumbline: Shell) -> None:
    base = (
        "predict --model llama2_7b --system A100_80GB_GPU --input 512 --output 64 --system_eff 0.6"
    )
    one, four = (plumbline(f"{base} --batch 4 --beams {n} --json").json for n in (1, 4))
    assert four["tpot_s"] > one["tpot_s"]
    assert four["ttft_s"] == one["ttft_s"]
    assert math.isclose(four["decode_tok_s"], 16 / four["tpot_s"])


def test_deepseek_v3_on_six_nodes_counts_its_weights_once(plumbline: Shell) -> None:
    """671 billion parameters, in 48 cards that hold them in 8 bits."""
    base = "predict --model deepseek-v3 --system 6x8xRTX4090 --tp 8 --pp 6 --system_eff 0.6 --json"
    found = plumbline(f"{base} --weights fp8 --batch 8 --input 1024 --output 128").json
    assert math.isclose(found["params"], 671.03e9, rel_tol=1e-4)
    assert math.isclose(found["params_active"], 37.55e9, rel_tol=1e-2)
    assert found["devices"] == 48
    assert found["fits"]
    assert 671e9 / 48 < found["memory_B"]["weights"] < 1.2 * 671e9 / 48
    refused = plumbline(f"{base} --weights bf16")
    assert refused.code == 2, "1.3 TB in 1.2 TB of memory"
    assert "does not fit" in refused.err


@pytest.mark.parametrize("count", [count_prefill, count_decode])
def test_its_collectives_run_over_eight_ranks(count: object) -> None:
    """Stages hand on from one to the next; sums stay within the eight cards of a stage."""
    laid = lay(load("deepseek-v3"), Plan(tp=8, pp=6, weights="fp8"))
    (step,) = count(laid, Workload(batch=8, input_tokens=1024, output_tokens=128))  # type: ignore[operator]
    assert len(step.tables) == 6
    for table in step.tables:
        busy = [index for index, kind in enumerate(table.collectives) if kind != "none"]
        assert busy
        assert {float(table.ranks[index].max()) for index in busy} == {8.0}
        assert {float(table.stride[index].max()) for index in busy} == {1.0}
