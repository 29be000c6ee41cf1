"""The policy search: near the best of a brute-force grid, and never over capacity."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from analyzer.errors import CapacityError, ConfigError
from analyzer.offload import case_of, forecast
from analyzer.offload_flexgen import FlexGenRun, forecast_flexgen
from analyzer.offload_known import FLEXGEN_T4, FLEXGEN_T4_QUIRKS, opt_dims
from analyzer.offload_machine import OffloadMachine
from analyzer.offload_memory import capacities_B, memory_rows
from analyzer.offload_policy import OffloadPolicy
from analyzer.offload_shapes import OffloadDims
from calibration.offload_search import SearchSpace, compare, search_policies, search_policy

LLAMA_70B = OffloadDims(
    layers=80, hidden=8192, ffn=28672, heads=64, kv_heads=8, head_dim=128, vocab=128256
)
CARD_24GB = OffloadMachine(
    h2d_Bps=25e9,
    d2h_Bps=24e9,
    disk_read_Bps=6e9,
    disk_write_Bps=3e9,
    hbm_Bps=9e11,
    gpu_flops=7e13,
    attention_flops=5e13,
    cpu_attention_Bps=4e10,
    unit_overhead_s=1e-4,
    gpu_B=24e9,
    cpu_B=192e9,
    disk_B=2e12,
)
SPACE = SearchSpace(gpu_batches=(1, 4, 8, 16, 32), most_batches=32)
T4_CASES = {
    "opt-30b": (FLEXGEN_T4, (20, 80, 0, 100, 0, 100), 48, 3, (0.082, 0.918, 0.0), 7.32),
    "opt-175b": (FLEXGEN_T4, (0, 50, 0, 0, 0, 100), 32, 8, (0.0, 0.5, 0.5), 0.687),
}


def brute_force(
    dims: OffloadDims, machine: OffloadMachine, prompt_len: int, gen_len: int, space: SearchSpace
) -> float:
    """Best throughput over every grid point that fits: shares in tenths, all batches."""
    tenths = [(a / 10, b / 10, (10 - a - b) / 10) for a in range(11) for b in range(11 - a)]
    some = [(1, 0, 0), (0, 1, 0), (0, 0, 1), (0.5, 0.5, 0)]
    shares = np.array([[*w, *k, *a] for w, k, a in itertools.product(tenths, tenths, some)])
    room = capacities_B(machine) * (1 - space.headroom)
    best = 0.0
    for batch, count, on_cpu in itertools.product(
        space.gpu_batches, (1, 2, 3, 4, 6, 8, 12, 16, 24, 32), (False, True)
    ):
        policy = OffloadPolicy(gpu_batch=batch, num_gpu_batches=count, cpu_attention=on_cpu)
        case = case_of(dims, policy, 2, prompt_len, gen_len)
        fits = np.all(memory_rows(case).at(shares) <= room, axis=-1)
        if fits.any():
            best = max(best, float(forecast(case, machine, shares[fits]).tok_s.max()))
    return best


@pytest.mark.parametrize(
    ("dims", "machine", "prompt_len", "gen_len"),
    [
        (opt_dims("opt-30b"), FLEXGEN_T4, 512, 9),
        (opt_dims("opt-175b"), FLEXGEN_T4, 512, 9),
        (LLAMA_70B, CARD_24GB, 512, 9),
        (LLAMA_70B, replace(CARD_24GB, cpu_B=96e9), 128, 17),
    ],
)
def test_search_is_within_five_percent_of_brute_force(dims, machine, prompt_len, gen_len):
    found = search_policy(dims, machine, prompt_len=prompt_len, gen_len=gen_len, space=SPACE)
    best = brute_force(dims, machine, prompt_len, gen_len, SPACE)
    assert found.tok_s >= 0.95 * best, (found.policy, found.tok_s, best)


@pytest.mark.parametrize("model", T4_CASES)
def test_search_beats_the_published_policy(model):
    """Ours must beat FlexGen's policy both in our schedule and as FlexGen itself ran it."""
    machine, percent, batch, count, realised, published = T4_CASES[model]
    dims = opt_dims(model)
    found = search_policy(dims, machine, prompt_len=512, gen_len=32)
    policy = OffloadPolicy.from_percent(
        percent, gpu_batch=batch, num_gpu_batches=count, cpu_attention=True
    )
    in_our_schedule = compare(dims, machine, policy, prompt_len=512, gen_len=32)
    shares = policy.shares("kv")
    run = FlexGenRun(
        prompt_len=512, gen_len=32, gpu_batch=batch, num_gpu_batches=count,
        weights=realised, kv=shares, act_gpu=0.0, cpu_attention=True,
    )  # fmt: skip
    as_it_ran = forecast_flexgen(dims, run, machine, FLEXGEN_T4_QUIRKS)
    assert found.tok_s > float(in_our_schedule.tok_s)
    assert found.tok_s > as_it_ran.tok_s
    assert found.tok_s > published


@pytest.mark.parametrize("cpu_B", [200e9, 128e9, 64e9])
def test_nothing_is_proposed_that_does_not_fit(cpu_B):
    machine = replace(CARD_24GB, cpu_B=cpu_B)
    space = replace(SPACE, gpu_batches=(1, 8, 64), weight_bits=(16, 4))
    for proposal in search_policies(LLAMA_70B, machine, prompt_len=1024, gen_len=32, space=space):
        room = capacities_B(machine) * 0.95
        assert np.all(np.array(proposal.memory_B) <= room), proposal
        assert proposal.tok_s > 0


def test_no_disk_means_no_share_on_disk():
    machine = replace(CARD_24GB, disk_B=0.0)
    best = search_policy(LLAMA_70B, machine, prompt_len=256, gen_len=16, space=SPACE)
    for what in ("weights", "kv", "act"):
        assert best.policy.shares(what)[2] < 1e-9


def test_more_room_is_never_worse_and_everything_fits_on_a_large_gpu():
    small = search_policy(LLAMA_70B, CARD_24GB, prompt_len=256, gen_len=16, space=SPACE)
    large = replace(CARD_24GB, gpu_B=400e9)
    best = search_policy(LLAMA_70B, large, prompt_len=256, gen_len=16, space=SPACE)
    assert best.tok_s > small.tok_s
    assert best.policy.shares("weights") == (1.0, 0.0, 0.0)


def test_a_time_limit_is_kept():
    space = replace(SPACE, most_s=60.0)
    best = search_policy(LLAMA_70B, CARD_24GB, prompt_len=64, gen_len=8, space=space)
    assert float(best.forecast.total_s) <= 60 * 1.02


def test_too_small_a_machine_is_an_error_that_says_what_is_missing():
    tiny = replace(CARD_24GB, cpu_B=8e9, disk_B=8e9)
    with pytest.raises(CapacityError, match=r"141\.1 GB"):
        search_policy(LLAMA_70B, tiny, prompt_len=64, gen_len=8, space=SPACE)


def test_impossible_spaces_are_refused():
    with pytest.raises(ConfigError, match="headroom"):
        SearchSpace(headroom=1.0)
    with pytest.raises(ConfigError, match="batches"):
        SearchSpace(gpu_batches=())
