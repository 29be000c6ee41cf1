"""What an engine does that others do not: scores through memory, chunks that follow each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analyzer.counting import Layout, Segment, Step, count
from analyzer.engines import engine, generations
from analyzer.errors import ConfigError
from analyzer.models_catalog import load
from analyzer.phases import LAUNCH_QUEUE, count_prefill, lay, unfed_periods
from analyzer.plan import Plan
from analyzer.records import Scenario
from analyzer.records_engine import engine_class
from analyzer.resolve import question
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.phase import time_phase
from analyzer.timing.rates import Rates
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
    return float(step.times - step.saved)


@pytest.mark.parametrize("pp", [1, 2, 4])
def test_chunks_of_a_prompt_fill_a_pipeline(pp: int) -> None:
    for chunks in (1, 2, 16):
        alone = times(pp, 512.0 * chunks, overlap=False)
        assert alone == chunks
        # a pipeline of pp stages, each a pp-th of the work, is done after chunks + pp - 1 stages
        assert times(pp, 512.0 * chunks, overlap=True) == pytest.approx((chunks + pp - 1) / pp)


def fed(stages: int, kernels: int, queue: int, chunks: int) -> float:
    """End of the last chunk, in times of a stage: one thread starts `kernels` per stage and chunk,
    in order, and waits where `queue` of them wait on the device."""
    ends: list[list[float]] = [[] for _ in range(stages)]
    thread = passed_on = 0.0
    for _ in range(chunks):
        passed_on = 0.0
        for on in ends:
            for index in range(kernels):
                if len(on) >= queue:
                    thread = max(thread, on[len(on) - queue])
                ready = passed_on if index == 0 else 0.0
                on.append(max(thread, ready, on[-1] if on else 0.0) + 1.0 / kernels)
            passed_on = on[-1]
    return passed_on


@given(
    stages=st.integers(1, 8),
    kernels=st.integers(1, 40),
    queue=st.integers(1, 200),
    chunks=st.integers(1, 12),
)
def test_a_pipeline_is_as_long_as_the_thread_that_feeds_it_lets_it_be(
    stages: int, kernels: int, queue: int, chunks: int
) -> None:
    """Exact where a stage's kernels do not fit the queue; within 21 % of one thread, kernel by
    kernel, elsewhere."""
    unfed = float(unfed_periods(stages, queue / kernels, chunks - 1.0))
    expected, formed = fed(stages, kernels, queue, chunks), stages + chunks - 1.0 + unfed
    assert formed == pytest.approx(expected, rel=1e-9 if queue < kernels else 0.21)
    assert stages + chunks - 1.0 <= formed <= stages * chunks + 1e-9


def test_kernels_that_cost_nothing_fill_no_queue() -> None:
    """A stage of Llama-3-70B on two cards has more kernels than queue; an ideal one minds not."""
    system = load_system("RTX3090")
    plan = Plan(pp=2, chunk_tokens=512, micro_batches=1, chunks_overlap=True, engine="llama.cpp")
    asked = Workload(batch=1.0, input_tokens=4096.0, output_tokens=1.0)
    steps = count_prefill(lay(load("llama-3-70b"), plan), asked)
    table = steps[0].tables[0]
    launches = float(np.ravel((table.launches * table.repeat).sum(axis=0))[0]) / 2
    assert launches > LAUNCH_QUEUE
    free = Rates.ideal().with_values(launch_s=0.0)
    costly = Rates.ideal().with_values(launch_s=1e-12)
    took = [float(time_phase(steps, machine(system), rates).total_s) for rates in (free, costly)]
    period = 2.0 - LAUNCH_QUEUE / launches
    assert took[1] / took[0] == pytest.approx((2 + 7 * period) / (2 + 7), rel=1e-6)


def test_ranks_that_do_not_divide_the_heads_are_padded_only_where_the_engine_does() -> None:
    asked = {"hardware": "Inferentia2", "gpus": 12, "tp": 24, "model": "llama-2-7b"}
    lengths = {"input_tokens": 128.0, "output_tokens": 16.0}
    padded = question(Scenario(engine="transformers-neuronx", **asked, **lengths))
    assert padded.system.name == "Inferentia2-core"
    whole = count_prefill(padded.laid, padded.workload)[0].tables[0]
    core = [i for i, kind in enumerate(whole.kinds) if kind == "attention"]
    # 32 heads on 24 ranks: two on the fullest
    assert float(whole.groups[core].max()) == 2.0
    with pytest.raises(ConfigError, match="tp=24 does not divide the 32 heads"):
        question(Scenario(engine="vLLM", **asked, **lengths))


@pytest.mark.parametrize("engine", ["llama.cpp", "optimum-habana (DeepSpeed)", "DeepSpeed"])
def test_ranks_that_share_heads_unequally_are_counted_by_the_largest_share(engine: str) -> None:
    lengths = {"input_tokens": 128.0, "output_tokens": 16.0}
    asked = Scenario(hardware="RTX3090", tp=3, model="llama-2-7b", engine=engine, **lengths)
    uneven = question(asked)
    whole = count_prefill(uneven.laid, uneven.workload)[0].tables[0]
    core = [i for i, kind in enumerate(whole.kinds) if kind == "attention"]
    assert float(whole.groups[core].max()) == 11.0


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("transformers-neuronx", "neuron"),
        ("OVMS (OpenVINO Model Server)", "openvino"),
        ("Ollama", "llama.cpp"),
        ("AutoGPTQ", "transformers"),
        ("KTransformers", "ktransformers"),
        ("TensorRT 10.2.0, CUDA 12.4", "tensorrt-llm-0"),
        ("Nvidia TensorRT-LLM", "tensorrt-llm-1"),
        ("vllm-gaudi", "vllm-v1"),
    ],
)
def test_engines_are_known_by_loose_names(written: str, meant: str) -> None:
    assert engine_class(written) == meant


def launches(name: str, **habits: float) -> float:
    layout = Layout(**habits)
    return float(count(load(name), Step((Segment(1.0, 1.0, 100.0),)), layout).total("launches"))


def test_an_engine_of_primitives_starts_more_kernels() -> None:
    plain = launches("llama-3-8b")
    assert launches("llama-3-8b", kernels=2.5) == 2.5 * plain
    both = launches("llama-3-8b", kernels=2.5, shared_kernels=4.0, expert_kernels=45.0)
    assert both == 2.5 * plain + 4 * 32


def test_only_shared_keys_and_routed_experts_take_kernels_of_their_own() -> None:
    habits = {"kernels": 2.5, "shared_kernels": 4.0, "expert_kernels": 45.0}
    assert launches("llama-2-7b", **habits) == 2.5 * launches("llama-2-7b")
    mixtral = launches("mixtral-8x7b", **habits)
    assert mixtral == pytest.approx(2.5 * launches("mixtral-8x7b") + (4 + 45) * 32)


@pytest.mark.parametrize(
    ("name", "times"), [("llama-2-7b", 1), ("llama-3-8b", 4), ("falcon-7b", 1)]
)
def test_keys_are_copied_for_each_head_unless_all_share_one(name: str, times: int) -> None:
    step = Step((Segment(3.0, 1.0, 100.0),))
    shared, own = (count(load(name), step, Layout(own_keys=keys)) for keys in (False, True))
    core = shared.names.index("attention.core")
    assert own.kv_B[core] == times * shared.kv_B[core]
    assert own.groups[core] == times * shared.groups[core]
    heads = shared.groups[core] * shared.heads_per_group[core]
    assert own.groups[core] * own.heads_per_group[core] == heads
    assert own.total("flops") == shared.total("flops")


def test_generations_are_of_one_engine_and_not_of_its_relatives() -> None:
    """Whoever names transformers does not mean accelerate, whose rates are others."""
    assert generations("transformers") == ["transformers"]
    assert generations("accelerate") == ["accelerate"]
    assert generations("transformers-bnb") == ["transformers-bnb-0", "transformers-bnb"]
    assert generations("vllm-v0")[:4] == ["vllm-2023", "vllm-0.4", "vllm-v0", "vllm-v1"]
    assert generations("nobody's") == []
    assert engine("accelerate").family == engine("transformers").family


def test_chunks_as_a_row_states_them() -> None:
    asked = {"hardware": "H100-SXM", "model": "llama-3-8b", "engine": "llama.cpp", "pp": 2}
    lengths = {"input_tokens": 128.0, "output_tokens": 16.0}
    usual = question(Scenario(**asked, **lengths)).plan
    stated = question(Scenario(variant="prompt in chunks of 16", **asked, **lengths)).plan
    assert (usual.chunk_tokens, usual.chunks_overlap) == (512, True)
    assert (stated.chunk_tokens, stated.chunks_overlap) == (16, False)


def test_tensorrt_llm_applies_no_window_that_nobody_asked_for() -> None:
    windowed, whole = load("mistral-7b-v0.1"), load("mistral-7b-v0.3")
    step = Step((Segment(4.0, 1.0, 20_000.0),))
    told = count(whole, step, Layout()).total("kv_B")
    assert count(windowed, step, Layout(windowed=False)).total("kv_B") == told
    assert count(windowed, step, Layout()).total("kv_B") < told / 4  # 4,096 of 20,000 keys
    for name in ("tensorrt-llm-0", "tensorrt-llm-0.10"):
        assert not lay(windowed, Plan(engine=name)).layout.windowed
    assert lay(windowed, Plan(engine="vllm-v1")).layout.windowed


def test_attention_in_blocks_is_no_window_that_an_engine_may_forget() -> None:
    blocks = load("llama-4-scout")
    step = Step((Segment(4.0, 1.0, 20_000.0),))
    forgetful = count(blocks, step, Layout(windowed=False)).total("kv_B")
    assert forgetful == count(blocks, step, Layout()).total("kv_B")
