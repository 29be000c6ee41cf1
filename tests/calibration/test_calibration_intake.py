"""Records of a profiler's store become cases of the system that is being calibrated."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from calibration_synthetic import records, scenarios

from analyzer.errors import DataError
from analyzer.models_catalog import entry
from analyzer.records import Record
from analyzer.records_arrival import Arrival
from analyzer.records_codec import encode_record
from calibration.collect import collect
from calibration.intake import as_measured_here, read_json_lines

SYSTEM = "A100-SXM-80GB"


def _record(**scenario: object) -> Record:
    first = records(scenarios(SYSTEM, ("llama-3.2-3b",), (4,), (512,), (1,)))[0]
    told = msgspec.structs.replace(first.scenario, hardware="A GPU as its driver calls it")
    return msgspec.structs.replace(first, scenario=msgspec.structs.replace(told, **scenario))


def test_a_model_of_no_catalog_comes_with_its_configuration(tmp_path: Path) -> None:
    config = {**entry("llama-3.2-3b").config, "num_hidden_layers": 3}
    record = msgspec.structs.replace(
        _record(model="my tiny one"), case={"config": json.dumps(config), "cache": "static"}
    )
    (ready,) = as_measured_here([record], SYSTEM, tmp_path / "models")
    (group,) = collect([ready]).groups.values()
    assert group.key[0] == SYSTEM
    (case,) = group.problem.cases
    assert len(case.model.layers) == 3
    assert case.model.name == "my-tiny-one"


def test_a_model_of_the_catalog_keeps_its_name(tmp_path: Path) -> None:
    record = msgspec.structs.replace(_record(), case={"config": "{}"})
    (ready,) = as_measured_here([record], SYSTEM, tmp_path)
    assert ready.scenario.model == "llama-3.2-3b"
    assert list(tmp_path.iterdir()) == []


def test_closed_loops_of_the_serving_profiler_are_whole_runs(tmp_path: Path) -> None:
    served = msgspec.structs.replace(_record(arrival=Arrival(kind="closed_loop")), kind="serving")
    found = collect(as_measured_here([served], SYSTEM, tmp_path))
    (group,) = found.groups.values()
    assert group.problem.cases[0].looped


def test_other_kinds_are_left_out_with_a_reason(tmp_path: Path) -> None:
    operator = msgspec.structs.replace(_record(), kind="operator", metrics={"latency_s": 1e-5})
    found = collect(as_measured_here([operator], SYSTEM, tmp_path))
    assert not found.groups
    assert "operator" in found.left_out[0].reason


def test_exported_lines_come_back_and_altered_ones_do_not(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_text(f"{encode_record(_record())}\n\n", encoding="utf-8")
    assert read_json_lines(path) == [_record()]
    path.write_text(encode_record(_record()).replace('"ttft_s":', '"ttft_s":1'), encoding="utf-8")
    with pytest.raises(DataError, match=r"records\.jsonl: line 1"):
        read_json_lines(path)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe\x00", b"not json\n"])
def test_what_holds_no_records_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"records\.jsonl"):
        read_json_lines(path)
