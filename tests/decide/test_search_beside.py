"""Where no plan fits, the search says what offloading would do."""

from __future__ import annotations

import json

import pytest

from plumbline import main

ASKED = ["search", "--system", "RTX4090", "--devices", "1", "--input", "256", "--output", "16"]


def test_a_model_that_fits_nowhere_gets_offloading_policies(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*ASKED, "--model", "llama-2-13b", "--weights", "fp32", "--best", "2"]) == 0
    said = capsys.readouterr().out
    assert "No plan keeps the promise" in said
    assert "Offloaded, on one RTX4090" in said
    assert "uncalibrated" in said
    assert main([*ASKED, "--model", "llama-2-70b", "--best", "3", "--json"]) == 0
    held = json.loads(capsys.readouterr().out.splitlines()[-1])["offloaded"]
    assert [each["tok_s"] for each in held] == sorted((e["tok_s"] for e in held), reverse=True)
    for each in held:
        block = each["gpu_batch_size"] * each["num_gpu_batches"]
        whole_s = each["prefill_s"] + each["decode_s"]
        assert each["tok_s"] == pytest.approx(block * 16 / whole_s)


def test_a_model_that_fits_gets_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*ASKED, "--model", "llama-3.1-8b", "--batch", "1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["offloaded"] == []
