"""`search`, `require`, `sensitivity`, `compare`, `replay` and designs of `sweep`, as users type."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from tests.cli.shell import Shell

SEARCH = "search --model llama-3-8b --system A100-SXM-80GB --input 1000 --output 100 --batch 1,8,64"
NEEDS = "require --model llama-2-7b --input 1000 --output 100"
SHAKE = "sensitivity --model llama-3-8b --system H100-SXM --batch 4 --uncalibrated"


def is_drawing(path: Path) -> bool:
    """Whether a file is SVG from its beginning to its end."""
    text = path.read_text("utf-8")
    return text.startswith("<?xml") and text.rstrip().endswith("</svg>") and "<path" in text


def test_search_finds_ranks_and_explains(plumbline: Shell) -> None:
    found = plumbline(f"{SEARCH} --devices 4 --ttft-ms 1000 --tpot-ms 30 --json").json
    rates = [plan["tok_s_per_device"] for plan in found["best"]]
    assert rates == sorted(rates, reverse=True)
    assert found["best"][0]["ttft_s"] <= 1.0
    assert found["best"][0]["tpot_s"] <= 0.03
    lost = {one["reason"] for one in found["lost"]}
    assert lost <= {"memory", "devices", "ttft", "tpot"}
    assert 0 < found["keep"] < found["plans"]
    said = plumbline(f"{SEARCH} --devices 4 --ttft-ms 1000 --tpot-ms 30 --why 0").out
    assert "keep promise and budget" in said
    assert "rates: " in said
    assert "row 0" in said


def test_search_says_when_nothing_keeps_the_promise(plumbline: Shell) -> None:
    said = plumbline(f"{SEARCH} --ttft-ms 0.01").out
    assert "No plan keeps the promise" in said
    assert "nearest: row" in said
    refused = plumbline(f"{SEARCH} --ttft-ms 0.01 --deploy nowhere")
    assert refused.code == 2
    assert "nothing to deploy" in refused.err


def test_search_leaves_files(plumbline: Shell, tmp_path: Path) -> None:
    plans, front, place = tmp_path / "plans.csv", tmp_path / "front.svg", tmp_path / "deployed"
    words = (
        f"--devices 2 --tpot-ms 50 --plans {plans} --front {front} --deploy {place} --simulate 1"
    )
    found = plumbline(f"{SEARCH} {words} --json").json
    rows = list(csv.DictReader(plans.read_text().splitlines()))
    assert len(rows) == found["plans"]
    kept = [row for row in rows if row["keeps"] == "yes"]
    assert len(kept) == found["keep"]
    best = max(kept, key=lambda row: float(row["tok_s_per_device"]))
    assert int(best["row"]) == found["best"][0]["row"]
    assert best["verdict"] == "it is the best"
    assert is_drawing(front)
    assert "vllm serve" in (place / "vllm.sh").read_text()
    (seen,) = found["simulated"]
    assert seen["result"]["requests"] > 0


def test_search_with_a_use_case_and_lists(plumbline: Shell) -> None:
    words = "--system L40S --use-case chat --ttft-ms 5000 --tpot-ms 200 --weights bf16,fp8"
    found = plumbline(f"search --model llama-3.1-8b {words} --chunk 0,2048 --batch 1:8 --json").json
    assert {plan["weights"] for plan in found["best"]} <= {"bf16", "fp8"}
    layouts = found["plans"] / (2 * 2 * 8)
    assert layouts == int(layouts) > 1, "formats, chunks and batches of every layout"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search --system H100-SXM", "--model is missing"),
        (f"{SEARCH} --objective speed", "objective 'speed' is unknown"),
        (f"{SEARCH} --host-gb 3", "--host-gb goes with --offload"),
        (f"{SEARCH} --draft llama-3-8b", "need --spec-tokens"),
        (f"{SEARCH} --spec-tokens 3", "needs --acceptance"),
        (f"{SEARCH} --weights-host half", "is not a list of shares"),
        (f"{SEARCH} --why 100000", "rows go from 0"),
        (f"{SEARCH} --use-case chatt", "did you mean chat"),
        (f"{SEARCH} --devices 0", "devices must be above 0"),
        (NEEDS, "needs a promise"),
        (f"{NEEDS} --tpot-ms 10 --tp 3", "does not divide the 32 heads"),
        (f"{SHAKE} --spread 2", "spread must lie between 0 and 1"),
        ("compare --model llama-3-8b", "--system is missing"),
        ("compare --model a,b --system c,d,e", "lists must have one length"),
        ("replay nowhere --system RTX3090 --model llama-2-7b", "no such file or folder"),
        ("sweep --design nowhere.toml --out a.csv", "cannot be read"),
        ("sweep --on ray --out a.csv --model llama-3-8b --system L4", "--design"),
    ],
)
def test_mistakes_are_one_line(plumbline: Shell, words: str, said: str) -> None:
    refused = plumbline(words)
    assert refused.code == 2
    assert said in refused.err
    assert refused.err.count("\n") == 1


def test_require_leads_back_through_its_own_system_file(plumbline: Shell, tmp_path: Path) -> None:
    file = tmp_path / "needed.toml"
    words = f"{NEEDS} --ttft-ms 200 --tpot-ms 10 --tp 2 --toml {file}"
    found = plumbline(f"{words} --against H100-SXM --json").json
    needs = {need["figure"]: need for need in found["needs"]}
    assert needs[found["binding"]]["binds"]
    assert found["ttft_s"] <= 0.2
    assert found["against"]["H100-SXM"]["memory"] > 1
    asked = f"predict --model llama-2-7b --system {file} --input 1000 --output 100 --tp 2"
    again = plumbline(f"{asked} --uncalibrated --json").json
    assert math.isclose(again["ttft_s"], found["ttft_s"], rel_tol=1e-9)
    assert math.isclose(again["tpot_s"], found["tpot_s"], rel_tol=1e-9)
    said = plumbline(words).out
    assert "binds most" in said
    assert "no interval is known" in said


def test_sensitivity_draws_a_tornado(plumbline: Shell, tmp_path: Path) -> None:
    said = plumbline(f"{SHAKE} --metric tpot --svg {tmp_path / 'tornado.svg'}").out
    first = next(line for line in said.splitlines() if "memory bandwidth" in line)
    assert "-9." in first
    assert "+11." in first
    assert "-1.00" in first
    assert is_drawing(tmp_path / "tornado.svg")
    found = plumbline(f"{SHAKE} --json").json
    assert {effect["kind"] for effect in found["effects"]} == {"figure", "rate"}


def test_compare_lays_side_by_side_and_keeps_pace(plumbline: Shell) -> None:
    words = "compare --model llama-2-7b,llama-2-70b --system H100-SXM --tp 1,8 --match tpot"
    found = plumbline(f"{words} --ideal --devices 8 --json").json
    assert [side["label"] for side in found["sides"]] == [
        "llama-2-7b H100-SXM tp1",
        "llama-2-70b H100-SXM tp8",
    ]
    (pace,) = found["pace"]
    assert pace["devices"] is None or pace["devices"] <= 8
    said = plumbline(words).out
    assert "TPOT, ms" in said
    assert "rates " in said
    cases = plumbline("compare --model llama-3.1-8b --system L40S --use-case chat,rag").out
    assert "breaks TTFT" in cases


def test_replay_predicts_what_was_measured(plumbline: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "run-tp1"
    folder.mkdir()
    lines = ["conversation_id,input_tokens,output_tokens,E2E,TTFT,TPOT"]
    lines += [f"{n},{256 * (n + 1)},200,4000,{60 * (n + 1)},19" for n in range(6)]
    (folder / "chat.csv").write_text("\n".join(lines) + "\n")
    words = f"replay {folder} --model llama-2-7b --system RTX3090"
    found = plumbline(f"{words} --json").json
    rows = list(csv.DictReader((folder / "predicted.csv").read_text().splitlines()))
    assert len(rows) == 6
    errors = [float(row["pred_ttft_ms"]) / float(row["ttft_ms"]) - 1 for row in rows]
    mape = sum(map(abs, errors)) / 6
    assert math.isclose(found["scores"]["ttft_s"]["mape"], mape, rel_tol=1e-3)
    for name in ("ttft", "tpot", "e2e"):
        assert is_drawing(folder / f"{name}.svg")
    again = plumbline(words).out
    assert "tp = 1 from the folder's name" in again, "what it wrote is not read as measured"


def test_a_design_is_swept_from_its_file(plumbline: Shell, tmp_path: Path) -> None:
    file, out = tmp_path / "space.toml", tmp_path / "points.csv"
    file.write_text(
        'model = "llama-3-8b"\nsystem = "L40S"\ndesign = "random"\npoints = 50\nseed = 1\n'
        "[axes]\nbatch = { low = 1, high = 32, log = true }\ntp = [1, 2]\n"
    )
    done = plumbline(f"sweep --design {file} --out {out} --json").json
    assert done["points"] == done["predicted_now"] == 50
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert len(rows) == 50
    assert json.dumps(rows)
    file.write_text('model = "llama-3-8b"\nsystem = "L40S"\nkind = "grid"\n')
    refused = plumbline(f"sweep --design {file} --out {out}")
    assert refused.code == 2
    assert "kind" in refused.err
