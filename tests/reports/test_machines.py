"""What this suite measured itself: read from the data folders, fitted, checked, tabulated."""

from __future__ import annotations

import msgspec
import pytest

from analyzer.errors import InputError
from analyzer.records import Provenance, Record, Scenario
from analyzer.sources.operator_fit import catalog_fits
from calibration.corpus import PERF_DIR
from calibration.corpus.profiled import CHECK_FILE, SYSTEM_FILE, load_profiled
from calibration.corpus.summary import perf_readme
from profilers.reading import published, write_records
from reports.validate.operators import LEAST_GROUPS, OPS, operators


def _record(**more: object) -> Record:
    made = Record(
        kind="e2e", metrics={"e2e_s": 1.0}, provenance=Provenance(source="plumbline profile"),
        scenario=Scenario(model="m", hardware="Abacus"),
    )  # fmt: skip
    return msgspec.structs.replace(made, **more)


def test_a_machines_folder_keeps_what_is_fitted_apart_from_what_is_checked(tmp_path):
    folder = tmp_path / "abacus"
    write_records([_record(), _record(kind="link")], folder / "e2e.jsonl")
    write_records([_record(metrics={"e2e_s": 2.0})], folder / CHECK_FILE)
    (folder / SYSTEM_FILE).write_text("")
    (tmp_path / "other").mkdir()
    (found,) = load_profiled(tmp_path)
    assert found.name == "abacus"
    assert [record.kind for record in found.records] == ["e2e", "link"]
    assert [record.metrics["e2e_s"] for record in found.check] == [2.0]
    (folder / "e2e.jsonl").write_text("{}\n")
    with pytest.raises(InputError, match=r"e2e\.jsonl: line 1"):
        load_profiled(tmp_path)


def test_what_is_published_names_no_folder_of_the_machine():
    plain, told = published([_record(), _record(environment={"command": "p --store /home/x/y"})])
    assert plain.environment == {}
    assert told.environment == {"command": "p --store y"}


def test_the_readme_has_a_row_for_every_machine():
    text = perf_readme(PERF_DIR)
    for machine in load_profiled(PERF_DIR):
        assert f"| {machine.name} | " in text
        assert all("/" not in str(r.environment.get("command", "")) for r in machine.records)


def test_kernels_are_listed_once_each_and_their_middle_lies_among_them():
    middle, listed = operators().tables
    fits = [fit for fit in catalog_fits() if fit.op in OPS and fit.groups >= LEAST_GROUPS]
    assert 0 < len(listed.rows) <= len(fits)
    assert len({row[:4] for row in listed.rows}) == len(listed.rows)
    for row in middle.rows:
        forms = [other[6] for other in listed.rows if other[1] == row[0]]
        assert min(forms) <= row[2] <= row[3] == max(forms)
