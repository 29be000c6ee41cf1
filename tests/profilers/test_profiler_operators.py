"""Operators on this CPU: counted work against torch's own counter, results against plain forms."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from analyzer.errors import ConfigError
from analyzer.records import Scenario
from profilers.cases import Case, Failure, Outcome
from profilers.ceilings import ceilings
from profilers.device import CpuDevice
from profilers.measure import Kit
from profilers.operator_scan import chunked_scan
from profilers.operator_work import BUILDERS, build
from profilers.operators import plan
from profilers.options import Options
from profilers.stopping import Rules
from profilers.telemetry import NoWatch
from profilers.workbench import Workbench, fill_normal, resolve_device

QUICK = Rules(min_samples=3, min_time_s=0.0, cap_s=0.05, warmup_s=0.0, max_samples=5, block_s=0.01)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    made = Workbench("cpu", None, str(tmp_path_factory.mktemp("scratch")))
    device = CpuDevice(made.clock, cache_B=1 << 16)  # flushing a real cache would take minutes
    made.kit = Kit(device=device, clock=made.clock, watch=NoWatch())
    yield made
    torch.set_grad_enabled(True)


@pytest.fixture(scope="module")
def tiny(bench):
    return plan(Options(store="x", size="tiny"), bench.describe().machine)


def test_every_planned_operator_has_a_builder(tiny):
    assert {item.case.case["op"] for item in tiny} <= set(BUILDERS)


def test_every_operator_of_a_plan_is_measured(bench, tiny):
    by_batch: dict[str, list[Case]] = {}
    for item in tiny:
        by_batch.setdefault(item.batch, []).append(item.case)
    replies = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls some of these formats prototypes
        for cases in by_batch.values():
            replies += list(bench.measure(cases, QUICK, 0))
    assert {reply.case for reply in replies} == {item.case.id for item in tiny}
    failures = [reply for reply in replies if isinstance(reply, Failure)]
    # int4 groups 128 weights, and tiny shapes have fewer: refused, not mismeasured
    refused = {item.case.id for item in tiny if item.case.case["dtype"] in ("int4", "fp8", "int8")}
    assert {reply.case for reply in failures} <= refused
    for reply in replies:
        if isinstance(reply, Outcome):
            assert reply.metrics["latency_s"] > 0
            assert reply.spread["latency_s"]["p10"] <= reply.metrics["latency_s"]


def case(**values) -> Case:
    return Case(profile="operators", kind="operator", scenario=Scenario(), case=values)


HEADS = {"n_heads": 8, "n_kv_heads": 2, "head_dim": 16, "dtype": "fp32", "variant": "sdpa"}
MOE = {"hidden": 32, "inter": 48, "experts": 4, "topk": 2, "dtype": "fp32"}


@pytest.mark.parametrize(
    ("asked", "share"),
    [
        ({"op": "gemm", "dtype": "fp32", "m": 5, "n": 48, "k": 32}, 1.0),
        ({"op": "attn_decode", "batch": 3, "kv_len": 40, **HEADS}, 1.0),
        # torch counts the whole square, we count the causal half with its diagonal
        ({"op": "attn_prefill", "batch": 2, "q_len": 40, **HEADS}, 41 / 80),
        ({"op": "moe", "num_tokens": 6, "variant": "loop", **MOE}, 1.0),
    ],
)
def test_flops_agree_with_torchs_own_counter(bench, asked, share):
    work = build(case(**asked), bench)
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # the fused CPU kernel is invisible to it
        work.run()
    assert work.flops == pytest.approx(share * counter.get_total_flops())


@pytest.mark.parametrize("variant", ["grouped_mm", "loop"])
def test_moe_moves_only_the_experts_that_are_touched(bench, variant):
    asked = {**MOE, "dtype": "bf16", "inter": 64, "experts": 32}
    work = build(case(op="moe", num_tokens=2, variant=variant, **asked), bench)
    touched = int(work.notes["touched_experts"])
    assert 2 <= touched <= 4
    assert work.moved_B == touched * 3 * 32 * 64 * 2 + 2 * 4 * 32 * 2


def test_both_forms_of_moe_give_the_same_result(bench):
    asked = {**MOE, "dtype": "bf16", "inter": 64}
    torch.manual_seed(3)
    grouped = build(case(op="moe", num_tokens=9, variant="grouped_mm", **asked), bench).run()
    torch.manual_seed(3)
    looped = build(case(op="moe", num_tokens=9, variant="loop", **asked), bench).run()
    torch.testing.assert_close(grouped, looped, rtol=0.05, atol=0.05)


def test_the_chunked_scan_equals_the_plain_recurrence():
    torch.manual_seed(0)
    batch, heads, chunks, chunk, width, size = 2, 3, 4, 5, 6, 7
    x = torch.randn(batch, heads, chunks, chunk, width, dtype=torch.float64)
    b, c = (torch.randn(batch, heads, chunks, chunk, size, dtype=torch.float64) for _ in range(2))
    log_decay = -torch.rand(batch, heads, chunks, chunk, dtype=torch.float64)
    fast = chunked_scan(torch, x, b, c, log_decay).flatten(2, 3)
    state = torch.zeros(batch, heads, width, size, dtype=torch.float64)
    flat = [tensor.flatten(2, 3) for tensor in (x, b, c, log_decay)]
    for index in range(chunks * chunk):
        x_t, b_t, c_t, decay_t = (tensor[:, :, index] for tensor in flat)
        state = state * decay_t.exp()[..., None, None] + x_t[..., :, None] * b_t[..., None, :]
        expected = (state @ c_t[..., None]).squeeze(-1)
        torch.testing.assert_close(fast[:, :, index], expected)


def test_data_are_random_normal_and_large_ones_too():
    for count in (1000, 3_000_001):
        values = fill_normal(torch.empty(count), 0.5)
        assert abs(float(values.mean())) < 0.05
        assert float(values.std()) == pytest.approx(0.5, rel=0.1)
        assert int((values == 0).sum()) < 10


def test_unknown_operators_formats_and_devices_are_refused_by_name(bench):
    with pytest.raises(ConfigError, match=r"unknown operator 'gem' .*gemm"):
        build(case(op="gem"), bench)
    with pytest.raises(ConfigError, match=r"unknown number format 'bf61' .*bf16"):
        build(case(op="gemm", dtype="bf61", m=1, n=1, k=1), bench)
    with pytest.raises(ConfigError, match="unknown device 'gpu'"):
        resolve_device("gpu")
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError, match="no CUDA device"):
            resolve_device("cuda:1")
        assert resolve_device("auto") == "cpu"


def test_a_failing_case_does_not_cost_its_neighbours(bench):
    good = case(op="gemm", dtype="fp32", m=2, n=8, k=8, cache="cold", launch="eager")
    bad = case(op="gemm", dtype="int4", m=2, n=8, k=7, cache="cold", launch="eager")
    replies = {reply.case: reply for reply in bench.measure([bad, good], QUICK, 0)}
    assert isinstance(replies[bad.id], Failure)
    assert isinstance(replies[good.id], Outcome)


def test_derived_rates_follow_from_time_and_work(bench):
    asked = case(op="gemm", dtype="fp32", m=8, n=64, k=64, cache="cold", launch="eager")
    (reply,) = bench.measure([asked], QUICK, 0)
    assert isinstance(reply, Outcome)
    metrics = reply.metrics
    assert metrics["arithmetic_FLOP"] == 2 * 8 * 64 * 64
    assert metrics["moved_B"] == (64 * 64 + 2 * 8 * 64) * 4
    assert metrics["achieved_FLOPps"] == metrics["arithmetic_FLOP"] / metrics["latency_s"]
    assert metrics["bandwidth_Bps"] == metrics["moved_B"] / metrics["latency_s"]
    assert set(reply.derived) == set(metrics) - {"latency_s"}
    assert reply.notes["cache"] == "cold"


def test_links_move_what_they_say_and_leave_no_files(bench):
    from profilers.links import plan as plan_links

    items = plan_links(Options(store="x", size="tiny"), bench.describe().machine)
    by_batch: dict[str, list[Case]] = {}
    for item in items:
        by_batch.setdefault(item.batch, []).append(item.case)
    for cases in by_batch.values():
        for reply in bench.measure(cases, QUICK, 0):
            asked = next(item.case for item in items if item.case.id == reply.case)
            if isinstance(reply, Failure):  # some file systems refuse O_DIRECT
                assert asked.case["variant"] == "direct"
                continue
            moved = reply.metrics["bandwidth_Bps"] * reply.metrics["latency_s"]
            arrays = {"memory_copy": 2, "memory_triad": 3}.get(str(asked.case["op"]), 1)
            assert moved == pytest.approx(arrays * int(asked.case["bytes"]))
    assert list(bench.scratch_folder().iterdir()) == []


def test_no_records_have_no_ceilings():
    assert ceilings([]) == {}
