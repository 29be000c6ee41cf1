"""Nothing is lost between records and fits, and nothing impossible gets in."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from calibration_synthetic import one_group, records, scenarios, with_metrics

from analyzer.errors import CalibrationError
from analyzer.records import Flag, Provenance, Record
from analyzer.records_arrival import Arrival
from analyzer.timing.rates import Rates
from calibration.collect import Collected, collect
from calibration.corpus import PERF_DIR, load_corpus
from calibration.problem import Case, build, least_round_s, predict
from calibration.run import calibrate, gathered

SYSTEM = "A100-SXM-80GB"
FEW = {"models": ("llama-2-7b", "llama-3-8b"), "batches": (1, 8), "inputs": (512,), "tps": (1,)}


def _few() -> list[Record]:
    return records(scenarios(SYSTEM, **FEW))


def _accounted(found: Collected) -> set[str]:
    """Places of all records that a fit uses or that were left out whole."""
    used = {r.provenance.place for group in found.groups.values() for r in group.records}
    return used | {entry.record.provenance.place for entry in found.left_out}


def test_every_row_of_the_corpus_is_used_or_left_out_with_a_reason() -> None:
    given = load_corpus(PERF_DIR, only="RTX3090").records
    found = collect(given)
    used = [id(r) for group in found.groups.values() for r in group.records]
    left = {id(entry.record) for entry in found.left_out}
    assert len(used) == len(set(used)), "no row twice"
    assert set(used) | left == {id(record) for record in given}
    assert all(entry.reason for entry in found.left_out)


def test_prompts_that_a_script_made_alike_are_counted_so() -> None:
    """Mixtral's batches, whose every prompt is one word repeated, visit the experts of one."""
    found = collect(load_corpus(PERF_DIR, only="A100-SXM-40GB").records)
    for engine, alike in (("tensorrt-llm-0", True), ("deepspeed-mii", True), ("vllm-v0", False)):
        cases = found.groups["A100-SXM-40GB", engine].problem.cases
        batches = {c.workload.batch for c in cases if c.group == "mixtral-8x7b"}
        assert {c.plan.alike for c in cases} == {alike}
        assert batches == {1.0, 16.0, 32.0, 64.0}


def test_unequal_shares_of_heads_are_predicted_and_not_fitted() -> None:
    found = collect(load_corpus(PERF_DIR, only="RTX3090").records)
    cases = found.groups["RTX3090", "llama.cpp"].problem.cases
    assert {case.plan.tp for case in cases} == {1, 2}
    assert sum("does not divide" in entry.reason for entry in found.left_out) > 0


def test_rows_faster_than_light_never_enter() -> None:
    whole = _few()
    fast = with_metrics(whole[0], tpot_s=1e-5)
    found = collect([fast, *whole[1:]])
    (group,) = found.groups.values()
    place = [r.provenance.place for r in group.records].index(fast.provenance.place)
    assert np.isnan(group.problem.observed[place, 1])
    assert np.isfinite(group.problem.observed[place, 0]), "only the impossible figure is dropped"
    (why,) = found.left_out
    assert "tpot_s" in why.reason
    assert "peaks" in why.reason


def test_a_row_of_which_all_is_impossible_is_out_altogether() -> None:
    whole = _few()
    fast = with_metrics(whole[0], ttft_s=1e-6, tpot_s=1e-6, e2e_s=1e-4)
    found = collect([fast, *whole[1:]])
    (group,) = found.groups.values()
    assert len(group.records) == len(whole) - 1
    assert _accounted(found) == {record.provenance.place for record in whole}


def _changed(record: Record, **scenario: object) -> Record:
    return msgspec.structs.replace(
        record, scenario=msgspec.structs.replace(record.scenario, **scenario)
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": "no-such-model-9b"}, "unknown model"),
        ({"hardware": "RTX9999"}, "unknown system"),
        ({"tp": 3, "gpus": 3}, "heads"),
        ({"arrival": Arrival(kind="poisson", rate_per_s=2.0)}, "poisson"),
        ({"speculative": "a draft"}, "drafted"),
        ({"model": "llama-3-70b"}, "does not fit"),
        ({"concurrency": 4000.0}, "do not fit the cache"),
        ({"tp": None}, "devices"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_kind_of_unusable_row_says_why(change: dict[str, object], reason: str) -> None:
    whole = _few()
    found = collect([_changed(whole[0], **change), *whole[1:]])
    (left,) = found.left_out
    assert reason in left.reason


def test_a_flagged_figure_stays_out_and_its_neighbours_do_not() -> None:
    whole = _few()
    late = msgspec.structs.replace(
        whole[0], flags=(Flag(code="late", reason="stamped late", metrics=("ttft_s",)),)
    )
    found = collect([late, *whole[1:]])
    (group,) = found.groups.values()
    place = [r.provenance.place for r in group.records].index(late.provenance.place)
    assert np.isnan(group.problem.observed[place, 0])
    assert np.isfinite(group.problem.observed[place, 1:]).all()


def test_other_systems_are_not_this_one() -> None:
    mixed = [*_few(), *records(scenarios("RTX3090", **FEW))]
    found = gathered("RTX3090", mixed, data=PERF_DIR / "nowhere")
    assert {key[0] for key in found.groups} == {"RTX3090"}


def test_models_with_many_rows_do_not_drown_the_others() -> None:
    whole = records(scenarios(SYSTEM, ("llama-2-7b",), inputs=(128, 256, 512, 1024), tps=(1,)))
    whole += records(scenarios(SYSTEM, ("llama-3-8b",), batches=(1,), inputs=(512,), tps=(1,)))
    (group,) = collect(whole).groups.values()
    weight = {case.group: case.weight for case in group.problem.cases}
    rows = {name: sum(c.group == name for c in group.problem.cases) for name in weight}
    assert weight["llama-3-8b"] > weight["llama-2-7b"]
    assert weight["llama-2-7b"] * rows["llama-2-7b"] > weight["llama-3-8b"], "but they count more"


def test_an_unmeasured_system_says_which_measurement_is_missing() -> None:
    with pytest.raises(CalibrationError, match=r"measure TTFT and TPOT of two models.*--suggest"):
        calibrate("TPUv4", data=PERF_DIR)


def test_an_unknown_engine_names_those_that_were_measured() -> None:
    with pytest.raises(CalibrationError, match=r"llama\.cpp"):
        calibrate("RTX3090", "llama-cpp")


def test_one_model_alone_gets_no_held_out_error() -> None:
    own = records(scenarios(SYSTEM, ("llama-2-7b",), inputs=(128, 1024), tps=(1,)))
    (done,) = calibrate(SYSTEM, own=own, data=PERF_DIR / "nowhere")
    assert all(score.held_out is None for score in done.calibration.scores)
    assert not np.isfinite(done.fitted.held_out.predicted).any()


def test_a_group_is_what_its_records_are() -> None:
    _, group = one_group(SYSTEM, **FEW)
    for case, record in zip(group.problem.cases, group.records, strict=True):
        assert case.workload.batch == record.scenario.concurrency
        assert case.model.name == record.scenario.model
        assert case.observed == pytest.approx(
            tuple(record.metrics[name] for name in ("ttft_s", "tpot_s", "e2e_s"))
        )


def test_offline_throughput_becomes_the_pace_of_a_full_engine() -> None:
    whole = _few()
    scenario = msgspec.structs.replace(
        whole[0].scenario, arrival=Arrival(kind="offline"), concurrency=None, output_tokens=512.0
    )
    queued = msgspec.structs.replace(whole[0], scenario=scenario, metrics={"output_tok_s": 2000.0})
    found = collect([queued, *whole[1:]])
    (group,) = found.groups.values()
    (case,) = (case for case in group.problem.cases if case.queued)
    assert case.looped
    assert case.running == case.workload.batch > 1
    assert case.observed[1] == pytest.approx(case.running / 2000.0)
    assert np.isnan(case.observed[0])
    assert np.isnan(case.observed[2])


def test_first_runs_are_told_from_warmed_ones() -> None:
    """A program's only run pays for its start, a benchmark's does not; only the former is cold."""
    found = collect(load_corpus(PERF_DIR, only="RTXA6000").records, only="RTXA6000")
    group = found.groups["RTXA6000", "llama.cpp"]
    cold = {case.cold for case in group.problem.cases}
    assert cold == {True, False}
    for case, record in zip(group.problem.cases, group.records, strict=True):
        assert case.cold == (record.scenario.variant == "main")
    slow, fast = (predict(group.problem, Rates.default().with_values(cold_s=s)) for s in (0.5, 0.0))
    marked = np.array([case.cold for case in group.problem.cases])
    np.testing.assert_allclose((slow - fast)[:, 0], 0.5 * marked, atol=1e-9)


def _loops(model: str, metrics: dict[str, float], count: int = 2) -> list[Record]:
    (asked,) = scenarios(SYSTEM, models=(model,), batches=(64,), inputs=(2000,), tps=(1,))
    scenario = msgspec.structs.replace(
        asked, arrival=Arrival(kind="closed_loop"), output_tokens=100.0, engine_version="0.12"
    )
    made = []
    for place in range(count):
        provenance = Provenance(source="synthetic", place=f"{model} {place}", date="2024-01")
        slower = {name: value * (1.0 + 9.0 * place) for name, value in metrics.items()}
        made.append(Record(kind="e2e", scenario=scenario, metrics=slower, provenance=provenance))
    return made


def test_a_loop_cannot_answer_faster_than_its_prompts_can_be_worked_off() -> None:
    """64 prompts a round, at the peak of an A100 0.1 s each, take more than the 3 s of this round;
    its two figures are possible each, and what else was measured alike is no better."""
    hurried = _loops("llama-3-8b", {"ttft_s": 0.3, "tpot_s": 0.03})
    honest = _loops("mistral-7b", {"ttft_s": 3.0, "tpot_s": 0.2})
    found = collect([*hurried, *honest])
    (group,) = found.groups.values()
    assert {record.scenario.model for record in group.records} == {"mistral-7b"}
    assert len(group.records) == len(honest)
    assert {entry.record.provenance.place for entry in found.left_out} == {
        record.provenance.place for record in hurried
    }
    assert all("rounds are shorter" in entry.reason for entry in found.left_out)


def test_a_loop_waits_no_longer_than_for_the_places_that_it_has() -> None:
    """All 64 fit; a first token that waits for four whole answers waited for something else."""
    queued = _loops("llama-3-8b", {"ttft_s": 4.1 * 100 * 0.2, "tpot_s": 0.2}, 1)
    usual = _loops("llama-3-8b", {"ttft_s": 4.0, "tpot_s": 0.2}, 1)
    found = collect([*queued, *usual])
    (group,) = found.groups.values()
    assert [record.metrics["ttft_s"] for record in group.records] == [4.0]
    assert [entry.record for entry in found.left_out] == queued
    assert "another limit held" in found.left_out[0].reason


def test_the_shortest_round_holds_all_work_and_hides_at_most_a_step_per_prompt() -> None:
    (group,) = collect(_loops("mistral-7b", {"ttft_s": 3.0, "tpot_s": 0.2}, 1)).groups.values()
    ideal = Rates.ideal()
    (least,) = least_round_s(group.problem, ideal)
    (lone,) = least_round_s(build([_alone(group.problem.cases[0])], group.problem.machine), ideal)
    assert least >= 64 * lone
    slow = least_round_s(group.problem, Rates.single(0.5))[0]
    assert slow == pytest.approx(2.0 * least, rel=1e-6)


def _alone(case: Case) -> Case:
    load = msgspec.structs.replace(case.workload, batch=1.0, output_tokens=1.0)
    return case._replace(workload=load, running=1.0)
