"""The whole chain with real workers and tiny models: profile, calibrate, predict, check.

What is proved is that each command takes what the one before left behind. Times of tiny models on a
machine that runs tests say nothing, so no figure is compared with another.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

import plumbline
from analyzer import systems_catalog
from profilers.reading import load_records

CALM = ["--size", "tiny", "--threads", "1", "--retake", "0"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUMBLINE_RATES", "")
    monkeypatch.delenv("PLUMBLINE_RATES")
    systems_catalog._this_machine.cache_clear()
    yield tmp_path
    systems_catalog._this_machine.cache_clear()


def said(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What a command prints; it must succeed."""
    code = plumbline.main(list(words))
    out, err = capsys.readouterr()
    assert code == 0, err
    return out


def test_profile_calibrate_predict_check(empty_folder: Path, capsys):
    parts = "links,operators,generation"
    out = said(capsys, "profile", parts, "--device", "cpu", "--dtypes", "bf16", *CALM)
    assert "Next: plumbline calibrate --system auto" in out
    records = load_records("plumbline-records")
    assert {record.kind for record in records} == {"link", "operator", "e2e"}

    out = said(capsys, "calibrate", "--system", "auto", "--doubtful")
    assert "transformers on " in out
    (rates,) = Path("plumbline-rates").glob("*__transformers.toml")
    system = rates.stem.removesuffix("__transformers")

    systems_catalog._this_machine.cache_clear()
    question = ["--model", "smollm2-135m", "--input", "8", "--output", "4", "--json"]
    predicted = said(capsys, "predict", "--system", "auto", *question)
    assert f"{system}/transformers@" in predicted

    asked = ["--device", "cpu", "--dtypes", "bf16", "--json", "--doubtful", *CALM]
    out = said(capsys, "profile", "check", *asked)
    found = json.loads(out.splitlines()[-1])
    assert found["calibration"].startswith(f"{system}/transformers@")
    assert {row["model"] for row in found["rows"]} == {"tiny-deep", "tiny-narrow"}
    for score in found["scores"].values():
        assert score["cases"] == len(found["rows"]) > 0
        assert math.isfinite(score["geomean_error"])
        assert math.isfinite(score["noise"])
