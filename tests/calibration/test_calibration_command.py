"""`plumbline calibrate`: what it prints, writes and refuses; and the check that CI runs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import msgspec
import pytest
from calibration_synthetic import records, scenarios

import plumbline
from analyzer.calibrated import FOLDER, Calibration, load_calibration
from analyzer.records_codec import encode_record
from analyzer.strict import decode_toml
from calibration.check import data_drifts, rate_drifts, refit, relatives_drifts, shipped_keys
from calibration.collect import collect
from calibration.corpus import PERF_DIR, load_corpus
from calibration.findings import SUPPLIES
from calibration.parameters import GENERIC

CHAT = "conversation_id,input_tokens,output_tokens,E2E,TTFT,TPOT"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PLUMBLINE_RATES", raising=False)
    return tmp_path


def _chat(folder: Path) -> Path:
    place = folder / "3090-tp1-llama2-7b"
    place.mkdir()
    rows = []
    for number, length in enumerate((64, 256, 512, 1024, 1536, 2048, 3072)):
        ttft, tpot = 15 + 0.21 * length, 18.6 + 0.0014 * length
        rows.append(f"c{number},{length},200,{ttft + 199 * tpot:.3f},{ttft:.3f},{tpot:.4f}")
    (place / "chat.csv").write_text("\n".join([CHAT, *rows]) + "\n", encoding="utf-8")
    return place


def test_a_folder_of_ones_own_is_fitted_and_written(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _chat(elsewhere)
    words = ["calibrate", "--system", "RTX3090", "--perf-dir", ".", "--model", "llama-2-7b"]
    assert plumbline.main([*words, "--out", "mine"]) == 0
    said = capsys.readouterr()
    assert "7 rows used, 0 left out" in said.out
    for wanted in ("held out", "90 % interval", "system_eff", "coverage measured", "prior",
                   "The data cannot tell", "ideal, every peak reached"):  # fmt: skip
        assert wanted in said.out, wanted
    assert "assumed: " in said.err
    (written,) = (elsewhere / "mine").glob("*.toml")
    found = decode_toml(written, Calibration)
    assert (found.system, found.engine, found.rows) == ("RTX3090", "unstated", 7)
    assert max(score.in_sample for score in found.scores) < 0.05


def test_published_rows_are_taken_along_when_asked_for(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _chat(elsewhere)
    words = ["calibrate", "--system", "RTX3090", "--perf-dir", ".", "--model", "llama-2-7b"]
    assert plumbline.main([*words, "--engine", "unstated", "--with-published", "--json"]) == 0
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert engine["rows"] > 7


def test_a_profilers_records_are_read_as_they_are(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = scenarios("A100-SXM-80GB", ("llama-2-7b",), (1, 8), (128, 1024), (1,))
    told = [
        msgspec.structs.replace(
            record, scenario=msgspec.structs.replace(record.scenario, hardware="some GPU 80GB")
        )
        for record in records(asked)
    ]
    Path("records.jsonl").write_text("\n".join(map(encode_record, told)), encoding="utf-8")
    words = ["calibrate", "--system", "A100-SXM-80GB", "--records", "records.jsonl"]
    assert plumbline.main([*words, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    (engine,) = document["engines"]
    assert engine["rows"] == len(told)
    assert Path(engine["written_to"]).exists()
    assert engine["errors"]["ours, in-sample"]["geomean"]["tpot_s"] < 0.05


def test_a_plan_is_written_with_the_columns_of_measured_files(
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["calibrate", "--system", "RTX3090", "--suggest", "4", "--model", "llama-3-8b"]
    assert plumbline.main([*words, "--devices", "1"]) == 0
    said = capsys.readouterr().out
    assert "would narrow" in said
    with open("plumbline-rates/plan-RTX3090.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 4
    assert {row["tp"] for row in rows} == {"1"}
    assert all(row["ttft_ms"] == "" for row in rows)
    assert len({tuple(row.values()) for row in rows}) == 4


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "--system is missing"),
        (["--system", "RTX3091"], "RTX3090"),
        (["--system", "RTX3090", "--engine", "nothing"], "there are"),
        (["--system", "RTX3090", "--suggest", "0"], "at least 1"),
        (["--system", "RTX3090", "--mapping", "m.toml"], "--perf-dir"),
        (["--system", "RTX3090", "--perf-dir", "nowhere"], "nowhere"),
        (["--system", "RTX3090", "--records", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--system", "RTX3090", "--out", str(FOLDER)], "shipped calibrations"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(
    words: list[str], says: str, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert plumbline.main(["calibrate", *words]) != 0
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert list(elsewhere.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _chat(elsewhere)
    Path("taken").write_text("a file", encoding="utf-8")
    words = ["calibrate", "--system", "RTX3090", "--perf-dir", ".", "--model", "llama-2-7b"]
    assert plumbline.main([*words, "--out", "taken"]) == 2
    assert "--out taken: cannot be written" in capsys.readouterr().err


def test_every_rate_that_may_stay_unknown_says_what_would_tell_it() -> None:
    assert set(GENERIC) <= set(SUPPLIES)


def test_changed_data_are_noticed() -> None:
    key = ("Gaudi2", "optimum-habana")
    rows = load_corpus(PERF_DIR, only=key[0]).records
    fewer = collect([r for r in rows if r.scenario.hardware == key[0]][1:], only=key[0])
    noticed = [drift for drift in data_drifts(fewer) if drift.what == "/".join(key)]
    assert noticed, "a row is gone"


def test_what_relatives_learn_from_is_shipped_too(tmp_path: Path) -> None:
    assert relatives_drifts(shipped_keys(), FOLDER) == []
    assert len(relatives_drifts(shipped_keys(), tmp_path)) == len(shipped_keys())


def test_changed_rates_are_noticed_and_the_same_are_not() -> None:
    key = ("Gaudi2", "optimum-habana")
    held = load_calibration(*key)
    assert held is not None
    found = refit(collect(load_corpus(PERF_DIR, only=key[0]).records, only=key[0]), key)
    now = {
        entry.name: msgspec.structs.replace(
            held.rates[entry.name], value=float(getattr(found.rates, entry.name))
        )
        for entry in found.priors
        if entry.name in held.rates
    }
    same = msgspec.structs.replace(held, rates=now)
    assert [d for d in rate_drifts(same, found) if "not both" not in d.found] == []
    slower = msgspec.structs.replace(now["mem_eff"], value=0.9 * now["mem_eff"].value)
    changed = msgspec.structs.replace(same, rates={**now, "mem_eff": slower})
    assert any(d.what.endswith("mem_eff") for d in rate_drifts(changed, found))
