"""The engine against transformers.generate, token for token, and against its own counts."""

from __future__ import annotations

import os

import pytest

from analyzer.offload_policy import OffloadPolicy

from .oracle import FAMILIES, check, every_policy

ALL = every_policy()
EVERY_17TH = ALL[::17]  # 47 policies; 17 shares no factor with the grid's axes
EXHAUSTIVE = os.environ.get("PLUMBLINE_EXHAUSTIVE", "")


def test_the_grid_and_its_sample_are_large_enough():
    assert len(set(ALL)) >= 700
    assert len(set(EVERY_17TH)) >= 40


@pytest.mark.parametrize("index", range(len(EVERY_17TH)))
def test_sample_of_policies_is_token_exact(index, checkpoint, expected):
    family = list(FAMILIES)[index % len(FAMILIES)]
    check(checkpoint(family), EVERY_17TH[index], expected(family, 6))


@pytest.mark.skipif(not EXHAUSTIVE, reason="set PLUMBLINE_EXHAUSTIVE=all (or a family) to run")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_policy_is_token_exact(family, checkpoint, expected):
    if EXHAUSTIVE not in ("all", "1", family):
        pytest.skip(f"only {EXHAUSTIVE} was asked for")
    for policy in ALL:
        check(checkpoint(family), policy, expected(family, 6))


@pytest.mark.parametrize("family", ["llama3", "qwen2", "opt", "mixtral"])
@pytest.mark.parametrize(("weight_bits", "kv_bits"), [(8, 16), (16, 4), (4, 8)])
def test_compressed_paths_equal_their_dequantised_reference(
    family, weight_bits, kv_bits, checkpoint, expected
):
    for percent, options in (
        ((30, 40, 34, 33, 40, 30), {}),
        ((0, 50, 34, 33, 0, 100), {"cpu_attention": True}),
    ):
        policy = OffloadPolicy.from_percent(
            percent,
            gpu_batch=2,
            num_gpu_batches=3,
            weight_bits=weight_bits,
            kv_bits=kv_bits,
            **options,
        )
        check(checkpoint(family), policy, expected(family, 6, weight_bits, kv_bits))


@pytest.mark.parametrize("rows", [1, 4, 5, 9])
def test_blocks_that_do_not_divide_evenly(rows, checkpoint, expected):
    policy = OffloadPolicy.from_percent(
        (30, 30, 30, 30, 30, 30), gpu_batch=2, num_gpu_batches=2, cpu_attention=True
    )
    check(checkpoint("llama3"), policy, expected("llama3", rows))
