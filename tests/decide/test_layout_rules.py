"""Layouts that a server refuses: blocks cut in two, experts dealt to some of the ranks."""

from __future__ import annotations

import pytest

from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.plan import Plan
from analyzer.resolve import check_plan
from analyzer.search import Budget, Space, search
from analyzer.search.layouts import layouts
from analyzer.systems_catalog import load_system
from analyzer.workload import SLO
from tests.decide.asked import question

H100 = load_system("H100-SXM")


@pytest.mark.parametrize(
    ("model", "cut", "fits"),
    [
        # Experts of 1,536 columns: 768 and 384 are whole blocks of 128, 192 are not.
        ("qwen3-235b-a22b-fp8", {"tp": 2}, True),
        ("qwen3-235b-a22b-fp8", {"tp": 4}, True),
        ("qwen3-235b-a22b-fp8", {"tp": 8}, False),
        ("qwen3-235b-a22b-fp8", {"tp": 8, "ep": 2}, True),
        ("qwen3-235b-a22b-fp8", {"tp": 8, "ep": 8}, True),
        ("qwen3-235b-a22b-fp8", {"tp": 8, "ep": 8, "attention_dp": 8}, True),
        # One scale per tensor binds nothing.
        ("nvidia/qwen3-235b-a22b-fp8", {"tp": 8}, True),
        ("qwen3-235b-a22b", {"tp": 8}, True),
        # 18,432 columns of the dense layers over 32 ranks are 576 each; 1,152 over 16.
        ("deepseek-v3", {"tp": 16}, True),
        ("deepseek-v3", {"tp": 32, "ep": 32}, False),
        ("deepseek-v3", {"tp": 32, "ep": 32, "attention_dp": 32}, True),
        ("qwen3-32b-fp8", {"tp": 8}, True),
    ],
)
def test_ranks_get_whole_blocks(model: str, cut: dict[str, int], fits: bool) -> None:
    plan = Plan(**cut)
    if fits:
        check_plan(plan, load(model), H100)
        return
    with pytest.raises(ConfigError, match="come in blocks of 128"):
        check_plan(plan, load(model), H100)


def test_the_refusal_says_what_would_do() -> None:
    with pytest.raises(ConfigError, match=r"192 each of the 1536 columns of the experts") as raised:
        check_plan(Plan(tp=8), load("qwen3-235b-a22b-fp8"), H100)
    assert "keep experts whole (a larger ep) or cut them over 1 or 2 or 4 ranks" in str(
        raised.value
    )


def test_weights_that_are_named_count_and_not_the_models_own() -> None:
    dense = load("qwen3-235b-a22b")
    with pytest.raises(ConfigError, match="fp8-block weights"):
        check_plan(Plan(tp=8, weights="fp8-block"), dense, H100)
    check_plan(Plan(tp=8, weights="bf16"), load("qwen3-235b-a22b-fp8"), H100)


def test_vllm_deals_experts_to_all_ranks_or_none() -> None:
    model = load("qwen3-235b-a22b-fp8")
    vllm = layouts(model, H100, Space(tp=(8,), pp=(1,)), 8, model.native_weights, "vllm-v1").legal
    assert {ranks.ep for ranks in vllm} == {8}
    assert {ranks.attention_dp for ranks in vllm} == {1, 2, 4, 8}
    sglang = layouts(model, H100, Space(tp=(8,), pp=(1,)), 8, model.native_weights, "sglang").legal
    assert {ranks.ep for ranks in sglang} == {2, 4, 8}
    asked = layouts(model, H100, Space(tp=(8,), pp=(1,), ep=(2,)), 8, "bf16", "vllm-v1")
    assert not asked.legal
    assert all("to all 8 ranks or to none" in said for said in asked.refused)


def test_a_search_tries_no_layout_that_its_format_forbids() -> None:
    space = Space(batch=(8,), weights=("fp8-block", "fp8"), pp=(1,))
    found = search(question("qwen3-235b-a22b", budget=Budget(devices=8), space=space, slo=SLO()))
    tried = {
        (found.plan(row).weights, found.plan(row).tp, found.plan(row).ep)
        for row in range(found.plans)
    }
    assert ("fp8", 8, 1) in tried
    assert ("fp8-block", 8, 1) not in tried
    assert ("fp8-block", 8, 8) in tried
