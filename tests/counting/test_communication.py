"""Collectives: how many, how large, between whom."""

from __future__ import annotations

import numpy as np
import pytest

from analyzer.counting import Layout, count, steps
from analyzer.model import Layer, Model
from analyzer.optable import OpTable

from .models import DENSE, EXPERTS, GQA, HIDDEN, MODELS, S6, SHARED, model

TOKENS = 64
STREAM_B = TOKENS * HIDDEN * 2
STEP = steps.decode(TOKENS, 100)


def calls(table: OpTable) -> dict[str, tuple[float, float, float, float]]:
    """Collective name → how often, payload, ranks, stride."""
    return {
        name: tuple(
            float(getattr(table, column)[row]) for column in ("repeat", "comm_B", "ranks", "stride")
        )
        for row, (name, kind) in enumerate(zip(table.names, table.collectives, strict=True))
        if kind != "none"
    }


def ring_B(table: OpTable) -> float:
    """Bytes that a rank sends in ring algorithms: an all-reduce is a scatter and a gather."""
    factor = {"all_reduce": 2.0, "all_gather": 1.0, "reduce_scatter": 1.0, "all_to_all": 1.0}
    return sum(
        factor[kind]
        * float(table.comm_B[row] * table.repeat[row])
        * (1 - 1 / float(table.ranks[row]))
        for row, kind in enumerate(table.collectives)
        if kind != "none"
    )


def test_one_device_is_silent() -> None:
    for name in MODELS:
        assert not calls(count(MODELS[name], STEP, Layout())), name


def test_two_all_reduces_per_layer() -> None:
    table = count(MODELS["dense"], STEP, Layout(tp=4.0))
    assert calls(table) == {
        "embedding.all_reduce": (1, STREAM_B, 4, 1),
        "mixer.all_reduce": (2, STREAM_B, 4, 1),
        "ffn.all_reduce": (2, STREAM_B, 4, 1),
        "head.all_gather": (1, TOKENS * 240 * 2, 4, 1),
    }


def test_every_product_is_gathered_where_matrices_are_cut_by_rows() -> None:
    found = calls(count(MODELS["dense"], STEP, Layout(tp=4.0, gathers_products=True)))
    fp32_B = TOKENS * 4
    widths = {"ffn.up": 2 * DENSE.width, "ffn.down": HIDDEN, "attention.out": HIDDEN}
    widths["attention.qkv"] = (GQA.heads + 2 * GQA.kv_heads) * GQA.head_dim
    for name, width in widths.items():
        assert found[f"{name}.gather"] == (2, fp32_B * width, 4, 1)
    assert not any(name in found for name in ("mixer.all_reduce", "ffn.all_reduce"))


def test_parallel_blocks_reduce_once() -> None:
    layer = Layer(mixer=GQA, ffn=DENSE, norms=1, parallel=True)
    block = Model(name="block", hidden=HIDDEN, vocab=240, layers=(layer,) * 5)
    found = calls(count(block, STEP, Layout(tp=2.0), with_embedding=False, with_head=False))
    assert found == {"block.all_reduce": (5, STREAM_B, 2, 1)}


@pytest.mark.parametrize("name", ["dense", "local", "mamba", "linear"])
def test_sequence_parallelism_moves_as_much_and_norms_less(name: str) -> None:
    plain = count(MODELS[name], STEP, Layout(tp=4.0))
    spread = count(MODELS[name], STEP, Layout(tp=4.0, sequence_parallel=True))
    # The last layer's tokens are gathered for the head, where all-reduce had left them everywhere.
    assert ring_B(spread) == pytest.approx(ring_B(plain))
    norms = [
        float((table.act_B * table.repeat)[[n == "norms" for n in table.names]].sum())
        for table in (plain, spread)
    ]
    assert norms[0] == pytest.approx(4 * norms[1])
    assert spread.total("flops") < plain.total("flops")


def test_deepseek_style() -> None:
    """Attention by whole sequences on every rank, experts over all ranks: only tokens travel."""
    layout = Layout(tp=8.0, ep=8.0, attention_dp=8.0)
    experts = model((GQA, SHARED))
    found = calls(count(experts, STEP, layout, with_embedding=False, with_head=False))
    assert set(found) == {"moe.dispatch", "moe.combine"}
    missed = np.prod([(14 - i) / (16 - i) for i in range(3)])
    sent_B = TOKENS / 8 * 8 * (1 - missed) * HIDDEN * 2
    assert found["moe.dispatch"] == pytest.approx((1, sent_B, 8, 1))


def test_experts_over_tensor_ranks() -> None:
    """Each of 4 groups takes a quarter of the tokens; afterwards partial sums are added up."""
    found = calls(count(model((GQA, SHARED)), STEP, Layout(tp=8.0, ep=4.0), None, False, False))
    assert set(found) == {
        "mixer.all_reduce",
        "moe.dispatch",
        "moe.combine",
        "moe.all_reduce",
    }
    assert found["moe.dispatch"][2:] == (4, 2)
    joined = calls(count(model((GQA, EXPERTS)), STEP, Layout(tp=4.0, ep=4.0), None, False, False))
    assert joined["moe.join"] == (1, STREAM_B, 4, 1)


def test_without_all_to_all_everyone_sees_all_tokens() -> None:
    layout = Layout(tp=8.0, ep=8.0, attention_dp=4.0, expert_all_to_all=False)
    found = calls(count(model((GQA, EXPERTS)), STEP, layout, None, False, False))
    assert found["moe.pool"] == (1, STREAM_B, 4, 2)
    assert found["moe.unpool"] == (1, STREAM_B, 4, 2)
    assert "moe.dispatch" not in found


def test_expert_width_over_groups_of_sequences() -> None:
    """Attention by whole sequences without expert parallelism pools the tokens of all ranks."""
    found = calls(
        count(model((GQA, EXPERTS)), STEP, Layout(tp=4.0, attention_dp=4.0), None, False, False)
    )
    assert set(found) == {"moe.pool", "moe.unpool"}
    assert found["moe.pool"] == (1, STREAM_B, 4, 1)


def test_dispatch_is_narrowed_with_the_activations() -> None:
    layout = Layout(tp=4.0, ep=4.0, compute=4.0, quantise_activations=1.0)
    found = calls(count(model((GQA, EXPERTS)), STEP, layout, None, False, False))
    assert 2 * found["moe.dispatch"][1] == pytest.approx(found["moe.combine"][1])


def test_the_busiest_group_holds_whole_sequences() -> None:
    """Nine sequences on four groups: one group holds three."""
    table = count(model((GQA, None)), steps.decode(9, 50), Layout(tp=4.0, attention_dp=4.0))
    assert table.m[table.names.index("attention.qkv")] == 3


def test_mamba_sums_its_step_sizes() -> None:
    found = calls(count(model((S6, None)), STEP, Layout(tp=4.0), None, False, False))
    assert found["mamba.all_reduce"] == (1, TOKENS * (6 + 2 * 12) * 2, 4, 1)


def test_ranks_of_scenarios_may_differ() -> None:
    tp = np.array([1.0, 2.0, 8.0])
    table = count(MODELS["dense"], STEP, Layout(tp=tp))
    row = table.names.index("mixer.all_reduce")
    assert table.comm_B[row].tolist() == [0.0, STREAM_B, STREAM_B]
    assert table.ranks[row].tolist() == [1.0, 2.0, 8.0]
    assert table.launches[row].tolist() == [0.0, 1.0, 1.0]
