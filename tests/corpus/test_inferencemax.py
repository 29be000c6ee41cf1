"""What the scripts of a campaign told its servers, read back into rows that do not say it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from analyzer.inferencemax import CHAT, READING, WRITING, as_run
from analyzer.predict import predict
from analyzer.quirks import Options, repaired, server_options
from analyzer.records import Scenario
from analyzer.resolve import question
from calibration.collect import collect
from calibration.corpus import PERF_DIR, load_corpus
from calibration.repeated import REPEATED

R1, V3 = "deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3"
SMALL = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA, OSS = "meta-llama/Llama-3.1-70B", "openai/gpt-oss-120b"


def row(
    model: str, load: tuple[int, int], requests: int, tp: int, more: dict[str, Any] | None = None
) -> Scenario:
    stated: dict[str, Any] = {
        "hardware": "B200-SXM-180GB",
        "engine": "TensorRT-LLM",
        "weight_precision": "fp4",
        "tp": tp,
        "gpus": tp,
    }
    prompt, answer = load
    return Scenario(
        model=model, input_tokens=prompt, output_tokens=answer, concurrency=requests,
        **{**stated, **(more or {})},
    )  # fmt: skip


def layout(found: Scenario) -> tuple[int, int, int]:
    return found.tp or 1, found.attention_dp or 1, found.moe_ep or 1


@pytest.mark.parametrize(
    ("load", "requests", "ran"),
    [
        (CHAT, 8, (8, 1, 1)),
        (CHAT, 16, (8, 1, 8)),
        (CHAT, 256, (1, 8, 8)),
        (WRITING, 16, (8, 1, 1)),
        (WRITING, 32, (8, 1, 8)),
        (READING, 32, (8, 1, 1)),
        (READING, 64, (1, 8, 8)),
    ],
)
def test_first_scripts_spread_experts_and_attention_by_load(
    load: tuple[int, int], requests: int, ran: tuple[int, int, int]
) -> None:
    assert layout(as_run(row(R1, load, requests, 8))) == ran
    later = row(R1, load, requests, 8, {"engine_version": "1.2.0rc6.post2"})
    assert layout(as_run(later)) == (8, 1, 1), "rows with a release say where experts lay"


def test_other_engines_and_sources_are_left_alone() -> None:
    other = row(R1, CHAT, 256, 8, {"engine": "SGLang"})
    assert as_run(other) is other
    mine = row(R1, CHAT, 256, 8)
    assert repaired(mine, "mine") is mine
    assert repaired(mine, "silicon_sample") != mine


@pytest.mark.parametrize(
    ("model", "version", "tp", "ep", "requests", "drafts"),
    [
        (R1, "1.2.0rc6.post3", 8, 1, 128, True),
        (R1, "1.2.0rc6.post2", 8, 1, 128, False),
        (R1, "1.1.0rc2.post2", 4, 1, 8, True),
        (R1, "1.1.0rc2.post2", 4, 1, 32, False),
        (R1, "1.1.0rc2.post2", 4, 4, 16, True),
        (V3, "1.1.0rc2.post2", 4, 4, 16, False),
        (V3, "1.2.0rc6.post3", 8, 1, 128, False),
    ],
)
def test_drafts_by_release_and_search_space(
    model: str, version: str, tp: int, ep: int, requests: int, drafts: bool
) -> None:
    more = {"engine_version": version, "moe_ep": ep, "moe_tp": tp // ep}
    assert bool(as_run(row(model, CHAT, requests, tp, more)).speculative) is drafts


def test_one_token_is_drafted_where_attention_is_parallel() -> None:
    more = {"engine_version": "1.2.0rc6.post3", "attention_dp": 8, "moe_ep": 8, "moe_tp": 1}
    assert as_run(row(R1, CHAT, 256, 1, more)).speculative.endswith("1")
    assert as_run(row(R1, CHAT, 64, 8, {"engine_version": "1.2.0rc6.post3"})).speculative[-1] == "3"


def test_prompts_wait_where_the_script_says_so() -> None:
    """Told by the length of answers alone: the same layout answers 1,024 tokens of prompt 20 steps
    later with 1,024 tokens of answer than with 8,192."""
    waits = {
        (load, tp): server_options(as_run(row(LLAMA, load, 16, tp))).batch_wait
        for load in (CHAT, WRITING, READING)
        for tp in (1, 2, 4, 8)
    }
    assert {key for key, steps in waits.items() if steps == 20} == {(CHAT, tp) for tp in (1, 2, 4)}
    assert set(waits.values()) == {0, 20}
    narrow = {"weight_precision": "fp8", "engine_version": "1.2.0rc6.post2"}
    held = [server_options(as_run(row(V3, CHAT, n, 8, narrow))).batch_wait for n in (32, 64, 128)]
    assert held == [0, 40, 40]
    parallel = {"attention_dp": 2, "moe_ep": 2, "moe_tp": 1, "engine_version": "1.2.0rc2"}
    assert server_options(as_run(row(OSS, WRITING, 64, 1, parallel))).batch_wait == 50


def test_room_for_one_prompt_a_step() -> None:
    first = {"engine_version": "1.1.0rc2.post2"}
    assert server_options(as_run(row(V3, CHAT, 64, 8, first))).step_tokens == 1152
    later = {"engine_version": "1.2.0rc6.post2"}
    assert server_options(as_run(row(V3, CHAT, 64, 8, later))).step_tokens == 8192
    assert server_options(as_run(row(OSS, CHAT, 64, 1))).step_tokens == 20000


def test_one_request_waits_in_one_release() -> None:
    """TensorRT-LLM 1.0.0rc3 had a place less than there were requests."""
    more = {"engine_version": "1.0.0rc3", "weight_precision": ""}
    asked = question(repaired(row(SMALL, CHAT, 8, 1, more), "silicon_sample"))
    assert asked.plan.places == 7
    found = predict(asked.model, asked.system, asked.plan, asked.workload, arrival="closed_loop")
    assert float(found.running) == 7.0
    served_s = float(found.e2e_s) * 7 / 8
    assert float(found.e2e_s) - served_s == pytest.approx(served_s / 7), "Little's law"
    later = repaired(row(SMALL, CHAT, 8, 1, {**more, "engine_version": "1.1"}), "silicon_sample")
    assert question(later).plan.places is None


def test_options_reach_the_plan() -> None:
    asked = question(as_run(row(LLAMA, CHAT, 16, 2)))
    assert (asked.plan.step_tokens, asked.plan.batch_wait) == (2248, 20)
    assert server_options(Scenario(variant="exllamav1")) == Options()


def test_rows_of_both_names_count_once() -> None:
    given = load_corpus(PERF_DIR, only="H200-SXM").of_source("silicon_sample").records
    found = collect(given)
    group = found.groups["H200-SXM", "tensorrt-llm-1"]
    figures = Counter((repr(c.observed), c.plan, c.workload) for c in group.problem.cases)
    assert max(figures.values()) == 1
    again = [entry for entry in found.left_out if entry.reason == REPEATED]
    drafted = [entry for entry in found.left_out if "drafted" in entry.reason]
    assert len(drafted) == 43
    assert {entry.record.scenario.model for entry in drafted} == {R1}
    assert again
    lone = found.groups["H200-SXM", "sglang"].problem.cases
    assert sum(c.group.startswith("deepseek") for c in lone) == 15
    assert sum(c.group.startswith("deepseek") for c in group.problem.cases) == 30
