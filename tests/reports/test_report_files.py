"""The whole report: written twice alike, and told apart from what it no longer describes."""

from __future__ import annotations

import json
import re

import pytest
from made_up_corpus import made_up

from analyzer.errors import CalibrationError, DataError
from calibration.run import write_catalog
from reports.validate import command, drift
from reports.validate.drift import check
from reports.validate.write import write_report


@pytest.fixture(scope="module")
def written(found, scored, tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    write_report(found, folder, scored, seeds=1)
    return folder


@pytest.fixture(scope="module")
def shipped(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rates")
    write_catalog(found, folder)
    return folder


@pytest.fixture
def corpus(monkeypatch):
    """The made-up records in place of the corpus."""

    class Corpus:
        records = tuple(made_up())

    monkeypatch.setattr(drift, "load_corpus", lambda folder: Corpus)
    return Corpus


def test_the_same_bytes_again(found, scored, written, tmp_path):
    write_report(found, tmp_path, scored, seeds=1)
    names = sorted(path.name for path in written.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (written / name).read_bytes(), name


def test_figures_are_small_and_every_one_is_shown(written):
    figures = list(written.glob("*.svg"))
    pages = "".join(path.read_text() for path in written.glob("*.md"))
    assert figures
    for path in figures:
        assert path.stat().st_size < 150_000
        assert f"({path.name})" in pages, path.name


def test_links_between_pages_lead_somewhere(written):
    text = (written / "README.md").read_text()
    for name in ("groups.md", "parameters.md", "excluded.md", "rtx3090.md", "index.html"):
        assert f"({name})" in text
        assert (written / name).is_file()


def test_numbers_are_plain_json_with_a_fingerprint_per_group(written):
    document = json.loads((written / "numbers.json").read_text())
    assert set(document["groups"]) == {"A100-SXM-80GB/vllm-0.4", "H100-SXM/vllm-0.4"}
    for group in document["groups"].values():
        assert group["rows"] == 36
        assert 0 < group["in_sample"]["e2e_s"] < 0.1
    assert "groups/groups" in document["tables"]


def test_the_check_passes_on_what_was_just_written(written, shipped, corpus):
    assert check(written, rates=shipped) == [
        "2 groups agree with the shipped calibrations and the data"
    ]


def test_the_check_fails_when_a_rate_has_drifted(written, shipped, corpus, tmp_path):
    for path in shipped.glob("*.toml"):
        text = path.read_text()
        if path.name.startswith("H100"):
            text = re.sub(r"(mem_eff\b.*?value = )[\d.]+", r"\g<1>0.3", text, flags=re.DOTALL)
        (tmp_path / path.name).write_text(text)
    changed = (tmp_path / "H100-SXM__vllm-0.4.toml").read_text()
    assert changed != (shipped / "H100-SXM__vllm-0.4.toml").read_text()
    with pytest.raises(CalibrationError, match=r"H100-SXM/vllm-0\.4"):
        check(written, rates=tmp_path)


def test_the_check_fails_when_rows_have_changed(written, shipped, corpus):
    corpus.records = corpus.records[:-1]
    with pytest.raises(CalibrationError, match="other rows than in the report"):
        check(written, rates=shipped)


def test_the_check_fails_where_there_is_no_report(shipped, corpus, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        check(tmp_path, rates=shipped)
    (tmp_path / "numbers.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        check(tmp_path, rates=shipped)


def test_options_lead_to_the_check(monkeypatch, tmp_path):
    monkeypatch.setattr(command, "check", lambda folder, data: [str(folder)])
    options = command.ValidateOptions(folder=tmp_path, check=True)
    assert command.run_validate(options) == [str(tmp_path)]
