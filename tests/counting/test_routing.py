"""Experts touched and loads, against drawing the choices at random."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.counting import Layout, count, steps
from analyzer.counting.routing import distinct_ranks, load, popularity

from .models import EXPERTS, HIDDEN, MODELS, model


@pytest.mark.parametrize(("experts", "top_k", "tokens"), [(5, 2, 1), (5, 2, 3), (6, 3, 2)])
def test_uniform_is_exact(experts: int, top_k: int, tokens: int) -> None:
    """All possible choices of all tokens, one by one."""
    choices = list(itertools.combinations(range(experts), top_k))
    distinct = [len(set().union(*drawn)) for drawn in itertools.product(choices, repeat=tokens)]
    assert load(experts, top_k, tokens, 1.0, 0.0).distinct == pytest.approx(np.mean(distinct))


def test_uniform_limits() -> None:
    assert load(256, 8, 1.0, 1.0, 0.0).distinct == pytest.approx(8)
    assert load(256, 8, 1e6, 1.0, 0.0).distinct == pytest.approx(256)
    assert load(8, 8, 1.0, 1.0, 0.0).distinct == 8
    assert load(8, 2, 64.0, 1.0, 0.0).distinct == pytest.approx(8, rel=1e-7)


def test_copies_of_one_text_visit_the_experts_of_one() -> None:
    """Sixteen equal sequences touch what one touches, and compute sixteen times as much there."""
    step = steps.prefill(16, 3)
    copies, one, apart = (
        count(MODELS["experts"], *given)
        for given in (
            (step, Layout(alike=1.0)),
            (steps.prefill(1, 3), Layout()),
            (step, Layout()),
        )
    )
    up = copies.names.index("moe.up")
    assert copies.weight_B[up] == pytest.approx(one.weight_B[up])
    assert copies.weight_B[up] < apart.weight_B[up]
    assert copies.flops[up] == pytest.approx(16 * one.flops[up])
    assert copies.flops[up] == apart.flops[up]


def test_short_prompts_pay_for_experts() -> None:
    """Three tokens of Mixtral visit experts all the same: nothing is divided down to nothing."""
    table = count(MODELS["experts"], steps.prefill(1, 3), Layout())
    up = table.names.index("moe.up")
    assert table.flops[up] == 2 * 3 * EXPERTS.top_k * HIDDEN * 2 * EXPERTS.width
    assert 3 < table.groups[up] < 9


@given(
    experts=st.integers(2, 64),
    top_k=st.integers(1, 8),
    skew=st.floats(0.0, 4.0),
)
def test_popularity_is_a_probability_of_choice(experts: int, top_k: int, skew: float) -> None:
    top_k = min(top_k, experts)
    chances = popularity(experts, top_k, skew)
    assert chances.sum() == pytest.approx(top_k, rel=1e-9)
    assert chances.max() <= 1.0
    assert (np.diff(chances) <= 1e-12).all()


@given(tokens=st.integers(1, 500), skew=st.floats(0.01, 3.0), ranks=st.sampled_from([1, 2, 4]))
def test_skew_touches_fewer_and_loads_the_busiest(tokens: int, skew: float, ranks: int) -> None:
    even, uneven = load(16, 3, tokens, ranks, 0.0), load(16, 3, tokens, ranks, skew)
    assert uneven.rows >= even.rows * (1 - 1e-9)
    if ranks == 1:
        assert uneven.distinct <= even.distinct * (1 + 1e-9)


def test_skew_against_random_draws() -> None:
    chances = popularity(16, 3, 0.8)
    generator = np.random.default_rng(1)
    touched = (generator.random((4000, 20, 16)) < chances).any(axis=1).sum(axis=1)
    assert load(16, 3, 20.0, 1.0, 0.8).distinct == pytest.approx(touched.mean(), rel=0.01)


def test_skew_vanishes_smoothly() -> None:
    near, none = load(64, 6, 10.0, 4.0, 1e-9), load(64, 6, 10.0, 4.0, 0.0)
    assert near.distinct == pytest.approx(none.distinct, rel=1e-6)
    assert near.rows == pytest.approx(none.rows, rel=1e-6)


@given(experts=st.sampled_from([8, 16, 64]), ranks=st.sampled_from([1, 2, 4, 8]))
def test_ranks_that_a_token_travels_to(experts: int, ranks: int) -> None:
    top_k, held = 3, experts // ranks
    missed = math.comb(experts - held, top_k) / math.comb(experts, top_k)
    assert distinct_ranks(experts, top_k, float(ranks)) == pytest.approx(ranks * (1 - missed))


def test_experts_that_do_not_come_out_even() -> None:
    """The busiest of 3 ranks holds 6 of 16 experts."""
    assert load(16, 3, 1e9, 3.0, 0.0).distinct == pytest.approx(6)
    assert load(16, 3, 100.0, 3.0, 0.0).rows == pytest.approx(100 * 3 * 6 / 16)


def test_ranks_share_the_routed_rows() -> None:
    moe = model((None, EXPERTS))
    whole = count(moe, steps.decode(32, 10), Layout())
    shared = count(moe, steps.decode(32, 10), Layout(tp=8.0, ep=4.0))
    for name in ("moe.up", "moe.down"):
        one, part = whole.names.index(name), shared.names.index(name)
        assert 8 * shared.flops[part] == pytest.approx(whole.flops[one])
        assert 8 * shared.weight_B[part] == pytest.approx(whole.weight_B[one])
