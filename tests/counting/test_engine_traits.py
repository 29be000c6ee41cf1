"""What an engine does that others do not: scores through memory, chunks that follow each other."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.counting import Layout, Segment, Step, count
from analyzer.models_catalog import load
from analyzer.phases import count_prefill, lay
from analyzer.plan import Plan
from analyzer.workload import Workload

LLAMA = load("llama-3-8b")


@given(st.integers(1, 32), st.integers(1, 600), st.integers(0, 2000))
def test_scores_pass_through_memory_four_times_in_fp32(batch: int, new: int, past: int) -> None:
    step = Step((Segment(float(batch), float(new), float(past)),))
    plain, eager = count(LLAMA, step, Layout()), count(LLAMA, step, Layout(flash=False))
    scores = batch * 32 * new * (new + past) * 32  # batch, heads, pairs, layers
    more = eager.total("act_B") - plain.total("act_B")
    assert more == pytest.approx(scores * 4 * 4.0, rel=1e-12)
    for column in ("flops", "weight_B", "kv_B", "comm_B"):
        assert eager.total(column) == plain.total(column)


def times(pp: int, prompt: float, overlap: bool) -> float:
    plan = Plan(pp=pp, chunk_tokens=512, micro_batches=1, chunks_overlap=overlap)
    load_ = Workload(batch=1.0, input_tokens=prompt, output_tokens=1.0)
    (step,) = count_prefill(lay(LLAMA, plan), load_)
    return float(step.times)


@pytest.mark.parametrize("pp", [1, 2, 4])
def test_chunks_of_a_prompt_fill_a_pipeline(pp: int) -> None:
    for chunks in (1, 2, 16):
        alone = times(pp, 512.0 * chunks, overlap=False)
        assert alone == chunks
        # a pipeline of pp stages, each a pp-th of the work, is done after chunks + pp - 1 stages
        assert times(pp, 512.0 * chunks, overlap=True) == pytest.approx((chunks + pp - 1) / pp)
