"""Conservation and monotony: cutting work adds none, more work never costs less."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.counting import Layout, Segment, Step, count, steps
from analyzer.counting.cache import cache_B
from analyzer.counting.footprint import activations_B, logits_B, weights_B
from analyzer.counting.parameters import count_parameters
from analyzer.model import Attention, Layer, Model
from analyzer.optable import OpTable

from .models import DENSE, GQA, LATENT, MODELS, model

BARE = Model(name="bare", hidden=96, vocab=240, layers=(Layer(mixer=GQA, ffn=DENSE, norms=0),) * 3)
"""A dense model without anything that every rank must hold."""


def flops(table: OpTable, *kinds: str) -> float:
    chosen = np.array([kind in kinds or not kinds for kind in table.kinds])
    work = (table.flops + table.vector_flops) * table.repeat
    return float(work[chosen].sum())


MATRIX = ("gemm", "grouped_gemm", "attention", "scan")
STEPS = st.builds(
    lambda batch, new, past: Step((Segment(float(batch), float(new), float(past)),)),
    st.integers(1, 64),
    st.integers(1, 300),
    st.integers(0, 1000),
)


@pytest.mark.parametrize("tp", [2.0, 4.0])
@given(step=STEPS)
def test_ranks_together_do_the_same_flops(step: Step, tp: float) -> None:
    one, part = count(BARE, step, Layout()), count(BARE, step, Layout(tp=tp))
    assert tp * flops(part, *MATRIX) == pytest.approx(flops(one, *MATRIX), rel=1e-12)


@pytest.mark.parametrize("tp", [2.0, 4.0])
def test_ranks_together_hold_the_same_weights(tp: float) -> None:
    assert tp * weights_B(BARE, Layout(tp=tp)) == weights_B(BARE, Layout())
    step = steps.decode(4, 100)
    one, part = count(BARE, step, Layout()), count(BARE, step, Layout(tp=tp))
    assert tp * part.total("weight_B") == pytest.approx(one.total("weight_B"), rel=1e-12)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10)
@given(step=STEPS)
def test_tensor_parallelism_never_adds_work_to_a_rank(name: str, step: Step) -> None:
    tables = [count(MODELS[name], step, Layout(tp=tp)) for tp in (1.0, 2.0, 4.0, 8.0)]
    for column in ("flops", "vector_flops", "weight_B", "kv_B"):
        totals = [float(table.total(column)) for table in tables]
        assert all(a >= b * (1 - 1e-12) for a, b in itertools.pairwise(totals)), column


def test_replicated_keys_and_values_are_all_that_is_added() -> None:
    """Eight ranks on four KV heads: each head's projection and cache exist twice."""
    step = steps.decode(4, 100)
    one, part = count(BARE, step, Layout()), count(BARE, step, Layout(tp=8.0))
    twice = 3 * 2 * 4 * (2 * 4 * 16) * 96
    assert 8 * flops(part, *MATRIX) == pytest.approx(flops(one, *MATRIX) + twice, rel=1e-12)
    assert 8 * cache_B(BARE, Layout(tp=8.0), 100.0).kv_B == 2 * cache_B(BARE, Layout(), 100.0).kv_B


def test_latents_are_whole_on_every_rank() -> None:
    latent = model((LATENT, None))
    one, part = cache_B(latent, Layout(), 100.0), cache_B(latent, Layout(tp=8.0), 100.0)
    assert one.kv_B == part.kv_B == 100 * (32 + 8) * 2


GROWING = [name for name in MODELS if name != "blocks"]
"""Where attention is cut into fixed blocks, the first query of a block sees less than the last of
the one before: there a longer past may really be less work."""


@pytest.mark.parametrize("name", GROWING)
@settings(max_examples=10)
@given(
    batch=st.integers(1, 50),
    new=st.integers(1, 200),
    past=st.integers(0, 500),
    more=st.integers(1, 99),
)
def test_more_work_never_costs_less(name: str, batch: int, new: int, past: int, more: int) -> None:
    layout = Layout(absorb_mla=False)
    base = np.array([[batch, new, past]] * 4, dtype=float) + more * np.eye(4, 3, k=-1)
    step = Step((Segment(*base.T),))
    table = count(MODELS[name], step, layout)
    for values in (
        table.total("flops") + table.total("vector_flops"),
        *(table.total(column) for column in ("weight_B", "act_B", "kv_B", "launches")),
        activations_B(MODELS[name], step, layout),
    ):
        values = np.broadcast_to(values, (4,))
        assert (values[1:] >= values[0] * (1 - 1e-12)).all()


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10)
@given(context=st.integers(0, 3000), more=st.integers(1, 500))
def test_memory_grows_with_context(name: str, context: int, more: int) -> None:
    kept = cache_B(MODELS[name], Layout(), np.array([context, context + more], dtype=float))
    kv = np.broadcast_to(kept.kv_B, (2,))
    assert kv[1] >= kv[0]


@pytest.mark.parametrize("name", MODELS)
def test_a_mixed_step_is_the_sum_of_its_parts(name: str) -> None:
    """Attention and scans add up; linear layers see all tokens and read their weights once."""
    layout = Layout()
    mixed = count(MODELS[name], steps.mixed(64.0, 128.0, 16.0, 300.0, completes=1.0), layout)
    parts = [
        count(MODELS[name], steps.prefill(1, 64.0, 128.0), layout),
        count(MODELS[name], steps.decode(16.0, 300.0), layout),
    ]
    for kinds in (("gemm",), ("grouped_gemm",), ("attention", "scan")):
        assert flops(mixed, *kinds) == pytest.approx(sum(flops(p, *kinds) for p in parts))
    for column in ("kv_B",):
        assert mixed.total(column) == pytest.approx(sum(p.total(column) for p in parts))
    gemm = np.array([kind == "gemm" for kind in mixed.kinds])
    once = np.array([kind == "gemm" for kind in parts[0].kinds])
    read = (mixed.weight_B * mixed.repeat)[gemm].sum()
    assert read == pytest.approx((parts[0].weight_B * parts[0].repeat)[once].sum())


@pytest.mark.parametrize("name", MODELS)
def test_stages_together_are_the_model(name: str) -> None:
    small, step = MODELS[name], steps.prefill(2, 50)
    whole = count(small, step, Layout())
    cuts = [slice(0, 1), slice(1, None)]
    stages = [
        count(small, step, Layout(), cut, with_embedding=cut.start == 0, with_head=cut.start == 1)
        for cut in cuts
    ]
    for column in ("flops", "weight_B", "act_B", "kv_B", "launches"):
        assert sum(stage.total(column) for stage in stages) == pytest.approx(whole.total(column))
    held = [weights_B(small, Layout(), cut, cut.start == 0, cut.start == 1) for cut in cuts]
    copied = 240 * 48 * 2 if small.tied_embeddings else 0
    assert sum(held) == weights_B(small, Layout()) + copied


@pytest.mark.parametrize("name", MODELS)
def test_stored_weights_are_the_parameters(name: str) -> None:
    assert weights_B(MODELS[name], Layout()) == 2 * count_parameters(MODELS[name]).total


def test_a_step_reads_every_weight_but_the_table() -> None:
    """A batch that touches every expert reads all parameters, of the embedding only its rows."""
    experts = MODELS["experts"]
    table = count(experts, steps.decode(1e9, 10), Layout())
    rows = table.names.index("embedding")
    read = table.total("weight_B") - table.weight_B[rows]
    assert read == 2 * (count_parameters(experts).total - 240 * 96)


def test_an_empty_stage_is_no_work() -> None:
    table = count(BARE, steps.decode(1, 10), Layout(), slice(0, 0), False, False)
    assert table.names == ()
    assert table.total("flops") == 0


def test_logits_only_where_needed() -> None:
    one, all_of_them = steps.prefill(2, 50), steps.verify(2, 0, 50)
    assert logits_B(BARE, one, Layout()) == 2 * 240 * (2 + 4)
    assert logits_B(BARE, all_of_them, Layout()) == 2 * 50 * 240 * (2 + 4)
    head = [count(BARE, step, Layout()) for step in (one, all_of_them)]
    rows = [float(table.m[table.names.index("head")]) for table in head]
    assert rows == [2, 100]


def test_windows_bound_the_cache() -> None:
    windowed = model((Attention(heads=8, kv_heads=4, head_dim=16, window=24), None))
    kept = cache_B(windowed, Layout(), np.array([10.0, 24.0, 1000.0])).kv_B
    assert kept.tolist() == [10 * 256, 23 * 256, 23 * 256]
