"""`profile offload` and `search --offload`, as a user would type them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from plumbline import main

TINY = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 64,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-6,
}


def test_profile_offload_says_where_bytes_are_and_moves_what_was_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    words = ["profile", "offload", "--model", str(tmp_path), "--random-weights"]
    words += ["--percent", "0", "100", "100", "0", "100", "0", "--prompt-len", "8"]
    words += ["--gen-len", "4", "--gpu-batch-size", "2", "--num-gpu-batches", "2"]
    words += ["--dtype", "float32", "--device", "cpu", "--offload-dir", str(tmp_path / "o")]
    assert main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert document["realised_B"]["weights"]["gpu"] == 0
    moved, counted = document["streams_B"], document["counted_B"]
    assert moved
    assert all(counted[name] == size for name, size in moved.items())
    assert main(words) == 0
    assert "weights:" in capsys.readouterr().out


def test_search_offload_finds_what_a_24_gb_card_can_do_with_70b_weights(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["search", "--offload", "--model", "llama-2-70b", "--system", "RTX4090"]
    assert main([*words, "--host-gb", "256", "--disk-gb", "0", "--best", "1", "--json"]) == 0
    (best,) = json.loads(capsys.readouterr().out.splitlines()[-1])["policies"]
    assert best["tok_s"] > 0
    assert best["memory_B"][0] <= 25.8e9
    assert best["memory_B"][1] <= 256e9


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "--offload", "--system", "RTX4090"], "--model is missing"),
        (
            ["search", "--offload", "--model", "no-such-model", "--system", "RTX4090"],
            "not in the catalog",
        ),
        (
            ["profile", "offload", "--model", "nowhere", "--percent", "1", "2", "3", "4", "5", "6"],
            "config.json",
        ),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_search_offload_takes_the_rates_that_were_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    words = ["profile", "offload", "--model", str(tmp_path), "--random-weights"]
    words += ["--percent", "0", "100", "0", "100", "100", "0", "--prompt-len", "8", "--no-overlap"]
    words += ["--gen-len", "4", "--gpu-batch-size", "2", "--dtype", "float32", "--device", "cpu"]
    assert main([*words, "--offload-dir", str(tmp_path / "o"), "--json"]) == 0
    store = tmp_path / "measured.jsonl"
    store.write_text(capsys.readouterr().out.splitlines()[-1] + "\n")
    search = ["search", "--offload", "--model", str(tmp_path), "--system", "RTX4090"]
    search += ["--host-gb", "1", "--disk-gb", "0", "--prompt-len", "8", "--gen-len", "4"]
    assert main([*search, "--json"]) == 0
    assumed = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert assumed["measured_rates"] == []
    assert main([*search, "--store", str(store), "--json"]) == 0
    measured = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {"h2d_Bps", "hbm_Bps"} <= set(measured["measured_rates"])
    assert measured["policies"][0]["tok_s"] != assumed["policies"][0]["tok_s"]
    assert main([*search, "--store", str(store)]) == 0
    assert "measured on this machine: " in capsys.readouterr().out
    assert main([*search]) == 0
    assert "uncalibrated" in capsys.readouterr().out
    store.write_text("{}\n")
    assert main([*search, "--store", str(store)]) == 2
    assert "measured.jsonl" in capsys.readouterr().err
