"""`plumbline bakeoff`: a stand-in interpreter answers for a peer; a file answers for anybody."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from made_up_corpus import made_up

from plumbline import main

WORKER = """#!{python}
import json, sys
for line in sys.stdin:
    asked = json.loads(line)
    print("chatter that is no answer")
    print(json.dumps({{"id": asked["id"], "prefill_ms": [50.0, 10.0], "decode_ms": [6.0, 1.0]}}))
"""


def table(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


@pytest.fixture
def corpus(monkeypatch: pytest.MonkeyPatch) -> None:
    import calibration.corpus

    made = SimpleNamespace(records=made_up())
    monkeypatch.setattr(calibration.corpus, "load_corpus", lambda folder: made)


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(WORKER.format(python=sys.executable))
    path.chmod(0o755)
    return path


@pytest.mark.usefixtures("corpus")
def test_a_peer_is_asked_under_another_interpreter(
    interpreter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--ask", "genz", "--python", str(interpreter), "--keep", str(tmp_path / "kept")]
    assert main(["bakeoff", *words, "--json"]) == 0
    said = capsys.readouterr()
    assert "alone" in said.err  # the fits' progress
    document = json.loads(said.out.strip().splitlines()[-1])
    lines = {row["predictor"]: row for row in document["everybody"]}
    assert {"ideal", "default 0.6", "ours, model held out", "genz at 0.6"} <= lines.keys()
    assert lines["genz at 0.6"]["TTFT rows"] == lines["ours, model held out"]["TTFT rows"] == 72
    ours, theirs = (lines[n]["geomean E2E"] for n in ("ours, model held out", "genz at 1.0"))
    assert ours < theirs
    kept = table(tmp_path / "kept" / "genz.csv")
    assert len(kept) == 72
    # 40 ms that an efficiency divides, 10 that it does not touch
    assert float(kept[0]["ttft_s"]) == pytest.approx(0.040)
    assert float(kept[0]["fixed_ttft_s"]) == pytest.approx(0.010)


@pytest.mark.usefixtures("corpus")
def test_rows_go_out_and_answers_come_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, mine = tmp_path / "rows.csv", tmp_path / "mine.csv"
    assert main(["bakeoff", "--rows", str(rows), "--most", "10"]) == 0
    asked = table(rows)
    assert len(asked) == 10
    mine.write_text("id,ttft_s,tpot_s,e2e_s\n" + "".join(f"{r['id']},1,0.1,\n" for r in asked))
    capsys.readouterr()
    assert main(["bakeoff", "--predictions", str(mine), "--most", "10"]) == 0
    said = capsys.readouterr().out
    assert "mine" in said
    assert "ours, model held out" in said


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--ask", "gnz"], "genz"),
        (["--most", "0"], "at least one"),
        (["--ask", "genz", "--python", "/nowhere/python"], "no such interpreter"),
        (["--predictions", "/nowhere.csv"], "/nowhere.csv"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], names: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bakeoff", *words]) == 2
    assert names in capsys.readouterr().err.strip().splitlines()[-1]
