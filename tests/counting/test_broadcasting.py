"""A call with arrays gives what a loop over its points gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.counting import Layout, Segment, Step, count
from analyzer.counting.cache import cache_B
from analyzer.counting.footprint import activations_B, logits_B, weights_B
from analyzer.model import Model
from analyzer.optable import COMPUTE_INDEX, OpTable
from analyzer.unpacking import AS_STORED, IN_KERNEL, KERNELS

from .models import MODELS

EXTENSIVE = ("flops", "vector_flops", "weight_B", "act_B", "kv_B", "comm_B", "launches")
INTENSIVE = ("m", "n", "k", "groups", "heads_per_group", "compute", "weight_bits")
POINTS = 4


def lengths(low: int, high: int) -> st.SearchStrategy[Any]:
    return st.lists(st.integers(low, high), min_size=POINTS, max_size=POINTS).map(np.array)


def among(*values: Any) -> st.SearchStrategy[Any]:
    return st.lists(st.sampled_from(values), min_size=POINTS, max_size=POINTS).map(np.array)


def made(kind: Any, **fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(fields).map(lambda chosen: kind(**chosen))


SEGMENTS = made(
    Segment,
    sequences=lengths(1, 40),
    new=lengths(1, 300),
    past=lengths(0, 400),
    sharing=among(1, 2, 4),
    shared_past=lengths(0, 100),
    logits=lengths(0, 3),
)
LAYOUTS = made(
    Layout,
    tp=among(4.0, 8.0),
    ep=among(1.0, 2.0, 4.0),
    attention_dp=among(1.0, 2.0, 4.0),
    sequence_parallel=among(False, True),
    weight_B=among(0.53, 1.0, 2.0),
    kv_B=among(1.0, 2.0),
    compute=among(COMPUTE_INDEX["bf16"], COMPUTE_INDEX["fp8"]),
    expert_weight_B=among(0.53, 2.0),
    unpacking=st.sampled_from([AS_STORED, IN_KERNEL, *KERNELS["transformers"].values()]),
    quantise_activations=among(0.0, 1.0),
    routing_skew=among(0.0, 0.5),
    alike=among(0.0, 1.0),
    absorb_mla=among(False, True),
    fused=among(False, True),
    lora_rank=among(0.0, 16.0),
    lora_adapters=among(0.0, 2.0),
    expert_all_to_all=among(False, True),
    cache_copies=among(0.0, 1.0),
)


def at(value: Any, index: int) -> Any:
    """One point of an array, as the plain number that a single scenario has."""
    return value[index].item() if isinstance(value, np.ndarray) else value


def rows(table: OpTable) -> dict[tuple[str, int], int]:
    """Row of each operator, told apart by its name and how often the name came before."""
    seen: dict[str, int] = {}
    found = {}
    for row, name in enumerate(table.names):
        found[name, seen.get(name, 0)] = row
        seen[name] = seen.get(name, 0) + 1
    return found


def assert_same_point(many: OpTable, one: OpTable, point: int) -> None:
    """Rows that the single scenario has are equal; rows that it lacks do nothing."""
    ours, theirs = rows(many), rows(one)
    assert theirs.keys() <= ours.keys()
    both = [(ours[key], theirs[key]) for key in theirs]
    here, there = (np.array(side) for side in zip(*both, strict=True))
    missing = [row for key, row in ours.items() if key not in theirs]
    working = one.launches[there] > 0
    for column in (*EXTENSIVE, *INTENSIVE):
        values = getattr(many, column)[:, point]
        alone = getattr(one, column)[there]
        if column in INTENSIVE:
            np.testing.assert_allclose(
                values[here][working], alone[working], rtol=1e-12, err_msg=column
            )
        else:
            np.testing.assert_allclose(values[here], alone, rtol=1e-12, atol=1e-6, err_msg=column)
            assert not values[missing].any(), column


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=25, deadline=None)
@given(segments=st.lists(SEGMENTS, min_size=1, max_size=2), layout=LAYOUTS)
def test_counting_broadcasts(name: str, segments: list[Segment], layout: Layout) -> None:
    model = MODELS[name]
    many = count(model, Step(tuple(segments)), layout)
    for point in range(POINTS):
        step = Step(tuple(Segment(*(at(x, point) for x in segment)) for segment in segments))
        one = count(model, step, Layout(*(at(x, point) for x in layout)))
        assert_same_point(many, one, point)


@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=10, deadline=None)
@given(segment=SEGMENTS, layout=LAYOUTS)
def test_footprint_broadcasts(name: str, segment: Segment, layout: Layout) -> None:
    model = MODELS[name]
    many = footprint(model, segment, layout)
    for point in range(POINTS):
        alone = Segment(*(at(x, point) for x in segment))
        one = footprint(model, alone, Layout(*(at(x, point) for x in layout)))
        for whole, single in zip(many, one, strict=True):
            value = np.broadcast_to(whole, (POINTS,))[point]
            assert value == pytest.approx(single, rel=1e-12)


def footprint(model: Model, segment: Segment, layout: Layout) -> tuple[Any, ...]:
    step = Step((segment,))
    return (
        weights_B(model, layout),
        cache_B(model, layout, segment.past).kv_B,
        cache_B(model, layout, segment.past).state_B,
        activations_B(model, step, layout),
        logits_B(model, step, layout),
    )


def test_compact_columns_read_as_full_ones() -> None:
    """A column that does not vary is stored once and reads as an array of the scenarios' shape."""
    batch = np.arange(1.0, 4.0)[:, None]
    context = np.arange(10.0, 15.0)
    table = count(MODELS["dense"], Step((Segment(batch, 1.0, context),)), Layout(tp=2.0))
    assert table.shape == (3, 5)
    assert table.columns["weight_B"].shape == (len(table.names), 3, 1)
    assert table.weight_B.shape == (len(table.names), 3, 5)
    assert table.total("launches").shape == (3, 5)
