"""Plans without a device: what they cover, what a budget keeps, what a wrong name says."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from analyzer.errors import ConfigError
from profilers import estimates, generation, planning
from profilers.batching import batches
from profilers.cases import Machine
from profilers.model_shapes import find_config, rough_parameters
from profilers.options import PROFILES, Options
from profilers.planning import PLANNERS, RULES, cut_to_budget, plan, rules_of

CPU = Machine(
    device="cpu", name="cpu", devices=1, memory_B=24e9, cache_B=32e6, threads=1,
    formats=("bf16", "fp32", "fp16", "int8", "fp8", "int4"),
    flops={"bf16": 4e11, "fp32": 1e11, "fp16": 4e10}, bandwidth_Bps=35e9, launch_s=2e-6,
)  # fmt: skip
GPU = Machine(
    device="cuda:0", name="gpu", devices=8, memory_B=150e9, cache_B=50e6, threads=16,
    formats=("bf16", "fp32", "fp16", "int8", "fp8", "int4"),
    flops={"bf16": 7e14, "fp32": 5e13}, bandwidth_Bps=4e12, launch_s=5e-6,
)  # fmt: skip
OPTIONS = Options(store="unused")


def test_every_profile_has_a_planner_and_rules():
    assert set(PLANNERS) == set(RULES) == set(PROFILES)


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("profile", PROFILES)
def test_cases_are_distinct_fit_the_memory_and_have_an_honest_estimate(machine, profile):
    items = plan(profile, OPTIONS, machine)
    assert len({item.case.id for item in items}) == len(items) > 0
    assert all(0 < item.estimate_s < 600 for item in items)
    assert all(item.memory_B < machine.memory_B for item in items)
    assert {item.case.profile for item in items} == {profile}
    assert all(item.case.title for item in items)


def test_planning_imports_neither_torch_nor_transformers():
    code = (
        "import sys, profilers.campaign, profilers.ceilings\n"
        "from profilers.planning import plan\n"
        "heavy = {'torch', 'transformers', 'scipy', 'pandas', 'pynvml'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_gpu_plan_spans_models_batches_and_contexts():
    items = [item.case.scenario for item in plan("generation", OPTIONS, GPU)]
    assert {1, 8, 64, 256} <= {scenario.concurrency for scenario in items}
    assert max(scenario.input_tokens for scenario in items) > 32_000
    assert {"llama-3.2-1b", "llama-3-8b", "llama-3-70b"} <= {scenario.model for scenario in items}
    assert {item.case.case["cache"] for item in plan("generation", OPTIONS, GPU)} == {
        "dynamic",
        "static",
    }


def test_operators_cover_the_kinds_that_models_are_made_of():
    items = plan("operators", OPTIONS, CPU)
    ops = {item.case.case["op"] for item in items}
    assert {"gemm", "attn_prefill", "attn_decode", "moe", "rms_norm", "rope", "softmax"} <= ops
    assert {"argmax", "top_k_sampling", "ssm_scan", "ssm_step", "embedding"} <= ops
    gemms = [item.case.case for item in items if item.case.case["op"] == "gemm"]
    assert {case["dtype"] for case in gemms} == set(CPU.formats)
    assert {"cold", "hot"} == {case["cache"] for case in gemms}
    assert min(case["n"] for case in gemms) < 512
    grouped = [item.case.case for item in items if item.case.case["op"] == "attn_decode"]
    assert any(case["n_kv_heads"] < case["n_heads"] for case in grouped)


def test_on_a_gpu_launches_are_graphed_and_some_eager():
    gemms = [item.case.case for item in plan("operators", OPTIONS, GPU)]
    launches = [case["launch"] for case in gemms if case["op"] == "gemm"]
    assert launches.count("graph") > launches.count("eager") > 0
    assert {item.case.case["launch"] for item in plan("operators", OPTIONS, CPU)} == {"eager"}


def test_collectives_follow_the_number_of_devices():
    ranks = {item.case.case["gpus"] for item in plan("collectives", OPTIONS, GPU)}
    assert ranks == {2, 4, 8}
    lone = Machine(**{**_fields(GPU), "devices": 1})
    assert plan("collectives", OPTIONS, lone) == ()
    assert {item.case.case["gpus"] for item in plan("collectives", OPTIONS, CPU)} == {2}


def _fields(machine: Machine) -> dict:
    return {name: getattr(machine, name) for name in machine.__struct_fields__}


@pytest.mark.parametrize("machine", [CPU, GPU], ids=["cpu", "gpu"])
@pytest.mark.parametrize("budget_s", [30.0, 600.0])
def test_a_budget_keeps_the_most_telling_of_every_profile(machine, budget_s):
    items = plan("all", OPTIONS, machine)
    chosen = cut_to_budget(items, budget_s)
    assert sum(item.estimate_s for item in chosen) <= budget_s
    first = [item for item in items if item.priority == 0]
    if sum(item.estimate_s for item in first) < budget_s * planning.BUDGET_SHARE:
        assert {item.case.id for item in first} <= {item.case.id for item in chosen}
    if budget_s == 600.0:
        assert {item.case.profile for item in chosen} == set(PROFILES)


def test_without_a_budget_nothing_is_cut():
    items = plan("all", OPTIONS, CPU)
    assert cut_to_budget(items, None) == items


def test_a_bigger_budget_never_drops_what_a_smaller_one_keeps_of_first_rank():
    items = plan("operators", OPTIONS, CPU)
    small = {i.case.id for i in cut_to_budget(items, 20.0) if i.priority == 0}
    large = {i.case.id for i in cut_to_budget(items, 200.0)}
    assert small <= large


def test_wrong_names_say_what_was_meant():
    with pytest.raises(ConfigError, match=r"unknown profile 'operator' .*operators"):
        plan("operator", OPTIONS, CPU)
    with pytest.raises(ConfigError, match=r"unknown model 'llama-3-7b'.*llama-3-70b|llama-3-8b"):
        plan("generation", Options(store="x", models=("llama-3-7b",)), CPU)


def test_models_come_from_the_catalog_from_our_list_or_from_a_file(tmp_path):
    assert find_config("meta-llama/Meta-Llama-3-8B")[0] == "llama-3-8b"
    assert find_config("tiny-llama")[1]["hidden_size"] == 64
    folder = tmp_path / "my-model"
    folder.mkdir()
    path = folder / "config.json"
    path.write_text(json.dumps({"model_type": "llama", "hidden_size": 32}))
    assert find_config(str(path)) == ("my-model", {"model_type": "llama", "hidden_size": 32})
    path.write_text("{")
    with pytest.raises(ConfigError, match="not valid JSON"):
        find_config(str(path))
    path.write_text("{}")
    with pytest.raises(ConfigError, match="no model_type"):
        find_config(str(path))
    with pytest.raises(ConfigError, match="cannot be read"):
        find_config(str(tmp_path / "absent.json"))


@pytest.mark.parametrize(
    ("name", "parameters", "tolerance"),
    [("llama-3-70b", 70.554e9, 0.001), ("llama-3-8b", 8.030e9, 0.001),
     ("mixtral-8x7b", 46.703e9, 0.001), ("qwen3-30b-a3b", 30.532e9, 0.01)],
)  # fmt: skip
def test_rough_sizes_are_close_enough_to_plan_by(name, parameters, tolerance):
    assert rough_parameters(find_config(name)[1]) == pytest.approx(parameters, rel=tolerance)


def test_estimates_grow_with_the_work():
    rules = RULES["operators"]
    times = [
        estimates.measuring_s(estimates.call_s(CPU, "bf16", flops, 1e6), rules, CPU)
        for flops in (1e6, 1e9, 1e11, 1e12)
    ]
    assert times == sorted(times)
    hot, cold = (estimates.measuring_s(1e-3, rules, CPU, cold=cold) for cold in (False, True))
    assert cold > hot


def test_a_processor_visits_each_generation_several_times_and_a_gpu_once():
    visits = plan("generation", OPTIONS, CPU)
    cases = {}
    for item in visits:
        bare = {name: value for name, value in item.case.case.items() if name != "repeat"}
        key = (item.case.scenario, *sorted(bare.items()))
        cases.setdefault(key, []).append((item.case.case["repeat"], item.batch))
    turns = set(range(generation.VISITS["small"]))
    for told in cases.values():
        assert {turn for turn, _ in told} == turns
        assert len({batch for _, batch in told}) == len(turns), "visits of one batch follow at once"
    assert all("repeat" not in item.case.case for item in plan("generation", OPTIONS, GPU))
    assert rules_of("generation", CPU) == generation.VISIT_RULES
    assert rules_of("generation", GPU) == RULES["generation"]
    assert rules_of("operators", CPU) == RULES["operators"]


def test_visits_to_a_case_are_spread_over_the_campaign_and_come_in_turn():
    planned = [item for item in plan("all", OPTIONS, CPU) if item.priority == 0]
    order = [item for batch in batches(planned, 3, 1e12) for item in batch.items]
    assert {item.case.id for item in order} == {item.case.id for item in planned}
    visits = [item.case.case.get("repeat") for item in order if item.case.profile == "generation"]
    assert visits == sorted(visits)
    middle = [item.case.profile for item in order[len(order) // 4 : 3 * len(order) // 4]]
    assert {"generation", "operators"} <= set(middle)
