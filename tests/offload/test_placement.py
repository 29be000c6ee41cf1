"""Placement, schedule, counts and codes: laws that need no model to run."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.offload_counts import BlockPlan, compute_flops, stream_bytes
from analyzer.offload_policy import OffloadPolicy, place, place_weights, split_rows
from analyzer.offload_schedule import schedule
from analyzer.offload_shapes import OffloadDims, encoded_B, tensor_B, tensors
from profilers.offload.lanes import STREAMS, Link
from profilers.offload.quant import decode, encode, round_trip

LLAMA_70B = OffloadDims(
    layers=80, hidden=8192, ffn=28672, heads=64, kv_heads=8, head_dim=128, vocab=128256
)
shares = st.tuples(st.integers(0, 100), st.integers(0, 100)).map(
    lambda pair: (min(pair), max(pair) - min(pair), 100 - max(pair))
)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=80), shares)
def test_placement_hits_every_share_within_one_tensor(sizes, percents):
    asked = [percent / 100 for percent in percents]
    homes = place(sizes, asked)
    for tier, share in enumerate(asked):
        got = sum(size for size, home in zip(sizes, homes, strict=True) if home == tier)
        assert abs(got - share * sum(sizes)) <= max(sizes) + 1e-3
        assert share > 0 or got == 0


@pytest.mark.parametrize("percents", [(20, 80), (10, 90), (4, 96), (97, 3), (50, 50), (75, 25)])
def test_llama_70b_gets_what_it_is_asked_for(percents):
    policy = OffloadPolicy(weights_gpu_pct=percents[0], weights_cpu_pct=percents[1])
    homes = place_weights(LLAMA_70B, 2, policy)
    sizes = {t.key: tensor_B(t, 2, 16) for t in tensors(LLAMA_70B)}
    total = sum(sizes.values())
    on_gpu = sum(size for key, size in sizes.items() if homes[key] == 0)
    assert abs(on_gpu - total * percents[0] / 100) <= max(sizes.values())
    assert total == 2 * 70_553_706_496  # parameters of Llama-3.1-70B


@settings(deadline=None)
@given(st.lists(st.integers(1, 64), min_size=1, max_size=60), shares)
def test_rows_are_split_without_loss_and_close_to_the_shares(counts, percents):
    asked = [percent / 100 for percent in percents]
    splits = split_rows(counts, asked)
    assert [sum(split) for split in splits] == counts
    assert min(min(split) for split in splits) >= 0
    for tier, share in enumerate(asked):
        got = sum(split[tier] for split in splits)
        assert abs(got - share * sum(counts)) <= 2
        assert share > 0 or got == 0


@given(st.integers(1, 4), st.integers(2, 6), st.integers(1, 4))
def test_schedule_does_everything_once_and_in_a_possible_order(steps, units, batches):
    events = list(schedule(steps, units, batches))
    assert len(set(events)) == len(events)
    order = {event: n for n, event in enumerate(events)}
    cells = [(i, j, k) for i in range(steps) for j in range(units) for k in range(batches)]
    for i, j, k in cells:
        compute = order["compute", i, j, k]
        assert order["load_weight", i, j, batches - 1] < compute
        assert order["load_hidden", i, j, k] < compute
        if j:
            assert order["attend", i, j - 1, k] < compute
        if j < units - 1:
            assert compute < order["store_cache", i, j, k] < order["attend", i, j, k]
            if i:
                assert order["store_cache", i - 1, j, k] < order["load_cache", i, j, k]
                assert order["load_cache", i, j, k] < order["attend", i, j, k]
    assert sum(event.stage == "load_weight" for event in events) == len(cells)


def test_streamed_bytes_have_the_closed_form():
    policy = OffloadPolicy.from_percent((0, 100, 0, 100, 0, 100), gpu_batch=16, num_gpu_batches=4)
    prompt, steps, rows, layers = 512, 32, 64, LLAMA_70B.layers
    plan = BlockPlan(LLAMA_70B, policy, 2, rows, prompt)
    moved = stream_bytes(plan, schedule(steps, plan.unit_count, len(plan.batches)))
    table = 2 * LLAMA_70B.vocab * LLAMA_70B.hidden
    weights = sum(plan.weight_B()) - table  # the embedding is looked up, not streamed
    token = rows * layers * 2 * 2 * LLAMA_70B.kv_width
    prefix = sum(prompt + i - 1 for i in range(1, steps))
    assert moved["load_weight", "h2d"] == steps * weights
    assert moved["load_cache", "h2d"] == token * prefix
    assert moved["store_cache", "d2h"] == token * (prompt + steps - 1)
    wide = 2 * (LLAMA_70B.hidden + LLAMA_70B.q_width)
    resting = rows * wide * ((layers - 1) * prompt + 1 + (steps - 1) * layers)
    assert moved["store_hidden", "d2h"] == resting == moved["load_hidden", "h2d"]
    assert moved["gather", "h2d"] == rows * 2 * LLAMA_70B.hidden * (prompt + steps - 1)
    assert not any(link.startswith("disk") for _, link in moved)


def test_flops_are_twice_the_parameters_per_token():
    policy = OffloadPolicy(gpu_batch=8)
    plan = BlockPlan(LLAMA_70B, policy, 2, 8, 512)
    events = [e for e in schedule(2, plan.unit_count, 1) if e.stage == "compute" and e.i == 1]
    matrices = sum(t.numel for t in tensors(LLAMA_70B) if t.kind == "matrix")
    assert sum(compute_flops(plan, event) for event in events) == 2 * 8 * matrices


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("width", [8, 16, 64, 96, 128, 7])
def test_codes_take_the_counted_bytes_and_stay_within_half_a_step(bits, width):
    values = torch.randn(5, 3, width, generator=torch.Generator().manual_seed(width))
    planes = encode(values, bits)
    assert sum(plane.nbytes for plane in planes) == encoded_B(values.numel(), width, 4, bits)
    back = decode(planes, bits, values.dtype)
    group = next((g for g in (64, 32, 16, 8) if width % g == 0), width)
    grouped = values.view(5, 3, -1, group)
    step = (grouped.amax(-1) - grouped.amin(-1)) / (2**bits - 1)
    error = (back - values).view_as(grouped).abs().amax(-1)
    assert bool((error <= 0.5 * step + 4e-3).all())


def test_a_constant_group_comes_back_and_codes_are_stable():
    values = torch.full((2, 64), 0.5)
    assert torch.equal(round_trip(values, 4), values)
    noisy = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    once = round_trip(noisy, 8)
    assert torch.allclose(round_trip(once, 8), once, atol=2e-3)


def test_an_emulated_link_serves_one_transfer_after_the_other():
    link = Link("h2d", rate=100.0, latency_s=0.5)
    assert link.reserve(10.0, 100) == (10.0, 11.5)
    assert link.reserve(10.0, 50) == (11.5, 12.5)
    assert link.reserve(20.0, 0) == (20.0, 20.5)
    assert Link("free").reserve(3.0, 1e12) == (3.0, 3.0)


def test_every_stream_has_one_name():
    assert len(set(STREAMS)) == len(STREAMS)
