"""One scenario on the command line: what is said, what it means, what is refused."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.cli.shell import Shell

LLAMA = "predict --model llama-3-8b --system H100-SXM"
KEYS = {
    "model",
    "system",
    "params",
    "params_active",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "prefill_tok_s",
    "decode_tok_s",
    "total_tok_s",
    "memory_B",
    "peak_B",
    "cache_tokens",
    "fits",
    "max_batch",
    "bound",
    "energy_J_per_token",
    "calibration",
    "interval",
    "warnings",
}
PARTS = {
    "weights",
    "kv",
    "state",
    "activations",
    "logits",
    "copies",
    "workspace",
    "reserve",
    "total",
}


def test_the_document_holds_what_it_promises(plumbline: Shell) -> None:
    said = plumbline(f"{LLAMA} --tp 1 --batch 8 --input 1024 --output 256 --uncalibrated --json")
    assert said.code == 0
    assert not said.err
    assert said.out.count("\n") == 1
    found = said.json
    assert found.keys() >= KEYS
    assert found["memory_B"].keys() == PARTS
    assert found["params"] == found["params_active"] == 8_030_261_248
    assert found["calibration"] is None
    assert found["interval"] is None
    assert found["fits"] is True


def test_the_figures_agree_with_each_other(plumbline: Shell) -> None:
    words = "--tp 2 --batch 8 --input 1024 --output 256 --system-eff 0.5 --json"
    found = plumbline(f"{LLAMA} {words}").json
    assert math.isclose(found["e2e_s"], found["ttft_s"] + 255 * found["tpot_s"])
    assert math.isclose(found["prefill_tok_s"], 8 * 1024 / found["ttft_s"])
    assert math.isclose(found["decode_tok_s"], 8 / found["tpot_s"])
    assert math.isclose(found["total_tok_s"], 8 * (1024 + 256) / found["e2e_s"])
    parts = sum(value for name, value in found["memory_B"].items() if name != "total")
    assert math.isclose(parts, found["memory_B"]["total"])


def test_every_operator_adds_up_to_the_phase(plumbline: Shell) -> None:
    words = "--tp 2 --pp 2 --batch 8 --input 512 --output 64 --uncalibrated --detail --json"
    found = plumbline(f"predict --model mixtral-8x7b --system H100-SXM {words}").json
    for phase, total in (("prefill", found["ttft_s"]), ("decode", found["tpot_s"])):
        listed = [line for line in found["operators"] if line["phase"] == phase]
        assert math.isclose(sum(line["time_s"] for line in listed), total, rel_tol=1e-9)
        assert math.isclose(sum(line["share"] for line in listed), 1.0, rel_tol=1e-9)
        assert all(0.0 <= line["of_light"] <= 1.0 + 1e-12 for line in listed)


def test_an_ideal_machine_is_at_the_speed_of_light(plumbline: Shell) -> None:
    found = plumbline(f"{LLAMA} --tp 2 --ideal --detail --json").json
    assert all(math.isclose(line["of_light"], 1.0) for line in found["operators"])
    assert {line["origin"] for line in found["operators"]} == {"ideal"}


def test_one_efficiency_scales_all_times(plumbline: Shell) -> None:
    half, whole = (
        plumbline(f"{LLAMA} --tp 1 --system_eff {eff} --json").json for eff in ("0.5", "1")
    )
    for name in ("ttft_s", "tpot_s", "e2e_s"):
        assert math.isclose(half[name], 2.0 * whole[name], rel_tol=1e-9)


def test_people_read_times_memory_bound_and_rates(plumbline: Shell) -> None:
    said = plumbline(f"{LLAMA} --tp 1 --batch 8 --uncalibrated --detail")
    assert said.code == 0
    for words in (
        "time to first token", "time per output token", "whole system", "memory of the fullest",
        "is bound by", "would help", "Rates: uncalibrated", "attention.core", "gemm_eff_16",
    ):  # fmt: skip
        assert words in said.out


def test_a_calibration_gives_interval_origin_and_name(plumbline: Shell, own_rates: Path) -> None:
    words = "--engine vllm --batch 4 --input 512 --output 128 --detail --json"
    found = plumbline(f"predict --model llama-2-7b --system RTX3090 {words}").json
    assert found["calibration"] == "RTX3090/vllm-v1@01234567"
    assert not found["warnings"]
    ttft, decode = found["interval"]["ttft_s"], found["interval"]["decode_tok_s"]
    assert ttft["level"] == 0.8
    assert math.isclose(ttft["low"], 0.9 * found["ttft_s"])
    assert math.isclose(decode["low"], found["decode_tok_s"] / 1.1)
    assert math.isclose(decode["high"], found["decode_tok_s"] / 0.95)
    assert "e2e_s" not in found["interval"]
    origins = {line["rate"]: line["origin"] for line in found["operators"]}
    assert origins["mem_eff"] == "calibrated"
    assert origins["gemm_eff_16"] == "prior"
    assert origins["kv_eff"] == "default"


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("--batch 32", "batch 32"),
        ("--input 3000 --output 100", "input_tokens 3000"),
        ("--output 900", "output_tokens 900"),
        ("--weights int8", "int8 weights"),
        ("--arrival closed_loop", "closed_loop arrivals"),
    ],
)
def test_leaving_what_was_measured_is_said(
    plumbline: Shell, own_rates: Path, words: str, about: str
) -> None:
    base = "predict --model llama-2-7b --system RTX3090 --engine vllm --input 512 --output 64"
    found = plumbline(f"{base} --json {words}").json
    assert any("extrapolates" in said and about in said for said in found["warnings"])


def test_rates_can_be_given(plumbline: Shell, tmp_path: Path) -> None:
    rates = tmp_path / "mine.toml"
    rates.write_text("mem_eff = 1.0\ngemm_eff_16 = 0.5\n")
    found = plumbline(f"{LLAMA} --tp 1 --rates {rates} --detail --json").json
    origins = {line["origin"] for line in found["operators"]}
    assert origins == {"given"}
    assert found["rates"] == str(rates)
    rates.write_text("mem_ef = 1.0\n")
    said = plumbline(f"{LLAMA} --rates {rates}")
    assert said.code == 2
    assert "mem_eff" in said.err
    assert str(rates) in said.err


def test_formats_that_a_device_lacks_are_said(plumbline: Shell) -> None:
    found = plumbline(
        "predict --model llama-3-8b --system A100-SXM-80GB --weights fp8 --uncalibrated --json"
    ).json
    assert any("no fp8 arithmetic" in said for said in found["warnings"])


def test_what_waits_for_room_is_said(plumbline: Shell) -> None:
    words = "--batch 100 --input 1024 --output 128 --uncalibrated --json"
    found = plumbline(f"predict --model llama-2-7b --system RTX3090 {words}").json
    assert found["fits"] is False
    assert found["running"] < 100
    assert found["running"] == min(found["max_batch"], 100)
    assert any("the others wait" in said for said in found["warnings"])


@pytest.mark.parametrize(
    "words",
    [
        "--spec-tokens 4 --acceptance 0.7",
        "--spec-tokens 4 --acceptance 0.7 --draft llama-3.2-1b",
        "--lora-rank 16 --lora-adapters 4",
        "--beams 4",
        "--cached 512",
        "--chunk 256",
        "--kv fp8",
        "--weights int4-awq-g128",
        "--compute fp8",
        "--dp 2",
        "--tp 8 --attention-dp 8",
        "--tp 2 --sequence-parallel",
        "--arrival closed_loop --batch 16",
    ],
)
def test_every_option_changes_the_answer(plumbline: Shell, words: str) -> None:
    base = f"{LLAMA} --input 1024 --output 128 --uncalibrated --json"
    plain, changed = (
        plumbline(f"{base} --batch 8").json,
        plumbline(f"{base} --batch 8 {words}").json,
    )
    differs = ("ttft_s", "tpot_s", "memory_B", "decode_tok_s")
    assert any(plain[name] != changed[name] for name in differs)


BAD = {
    "--batch 0": "batch must be at least 1",
    "--batch -4": "batch must be at least 1",
    "--input -1": "input_tokens must be at least 1",
    "--output 0": "output_tokens must be at least 1",
    "--batch many": "'many' is not a whole number",
    "--tp 3": "tp=3 does not divide the 32 heads",
    "--tp 0": "tp must be at least 1",
    "--ep 2 --tp 2": "has no experts",
    "--pp 99": "more than the 32 layers",
    "--weights fp99": "unknown number format 'fp99'",
    "--kv fp99": "unknown number format 'fp99'",
    "--compute fp99": "unknown number format 'fp99'",
    "--input 100000": "reads at most 8192 tokens",
    "--cached 1024 --input 1024": "cached_tokens must be fewer",
    "--system-eff 0": "system_eff must lie in (0, 1]",
    "--system-eff 1.5": "system_eff must lie in (0, 1]",
    "--engine no-such-engine": "unknown engine",
    "--batchs 4": "--batch",
    "--acceptance 0.5": "need --spec-tokens",
    "--spec-tokens 4 --acceptance 1.5": "acceptance must lie in 0..1",
    "--lora-rank 0": "lora-rank must be at least 1",
    "--chunk 0": "chunk must be at least 1",
    "--rates no-such.toml": "cannot be read",
    "--arrival sometimes": "closed_loop",
    "--ideal --uncalibrated": "not allowed with",
    "stray": "unknown option 'stray'",
}


@pytest.mark.parametrize("words", BAD)
def test_the_users_mistakes_are_one_line_and_never_a_number(plumbline: Shell, words: str) -> None:
    said = plumbline(f"{LLAMA} {words}")
    assert said.code == 2
    assert not said.out
    assert said.err.count("\n") == 1
    assert "Traceback" not in said.err
    assert BAD[words] in said.err


@pytest.mark.parametrize(
    ("words", "about"),
    [
        ("predict --model llama-2-70b --system RTX3090", "does not fit RTX3090"),
        ("predict --model opt-6.7b --system H100-SXM --input 100000", "2048 tokens"),
        ("predict --model lama-3-8b --system H100-SXM", "llama-3-8b"),
        ("predict --model llama-3-8b --system H100-SXN", "H100-SXM"),
        ("predict --model llama-3-8b", "--system is missing"),
        ("predict --system H100-SXM", "--model is missing"),
        ("predict --model llama-3-8b --system 6x8xrtx4090 --dp 64", "has 48 devices"),
        ("predit", "did you mean predict"),
        ("predict --csv a.csv", "--csv and --out go together"),
    ],
)
def test_other_mistakes_are_one_line_too(plumbline: Shell, words: str, about: str) -> None:
    said = plumbline(words)
    assert said.code == 2
    assert not said.out
    assert said.err.count("\n") == 1
    assert about in said.err


def test_a_made_up_key_in_a_system_file_is_refused(plumbline: Shell, tmp_path: Path) -> None:
    system = tmp_path / "mine.toml"
    system.write_text('name = "mine"\nbase = "RTX3090"\nmemory_bandwith_Bps = "1 TB/s"\n')
    said = plumbline(f"predict --model llama-2-7b --system {system}")
    assert said.code == 2
    assert not said.out
    assert "memory_bandwith_Bps" in said.err


def test_this_machine_is_recognised_and_assumptions_are_said(plumbline: Shell) -> None:
    found = plumbline("predict --model qwen3-0.6b --system auto --json").json
    assert any("recognised" in said for said in found["warnings"])


def test_what_does_not_fit_says_how_much_of_the_device_counts(plumbline: Shell) -> None:
    """83 GB of 85.5: vLLM leaves a tenth of the memory alone."""
    said = plumbline("predict --model falcon-40b --system H100-SXM --engine vllm")
    assert said.code == 2
    assert "of which vllm-" in said.err
    assert "takes 90%" in said.err
    assert (
        "of which"
        not in plumbline(
            "predict --model llama-3.1-70b --system H100-SXM --engine transformers"
        ).err
    )
