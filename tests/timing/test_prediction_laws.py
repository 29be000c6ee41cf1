"""Laws that hold whatever the rates: light is the limit, more work takes no less time, and an array
of scenarios answers as its members would."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.models_catalog import load
from analyzer.optable import COMPUTE
from analyzer.phases import SHARES, count_decode, count_prefill, lay
from analyzer.plan import Plan
from analyzer.predict import predict
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.phase import time_phase
from analyzer.timing.rates import PARAMETERS, Rates
from analyzer.timing.roofline import fill, padded, smooth_max, time_ops
from analyzer.workload import Workload

MODELS = ("llama-3-8b", "mixtral-8x7b", "deepseek-v3", "gpt-oss-20b", "qwen3-next-80b-a3b")
SYSTEM = load_system("H100-SXM")


@st.composite
def any_rates(draw: st.DrawFn) -> Rates:
    """Every rate anywhere between its limits."""
    values = {}
    for name, entry in PARAMETERS.items():
        share = draw(st.floats(0.0, 1.0))
        values[name] = entry.low + share**3 * (min(entry.high, 1e4) - entry.low)
    return Rates(**values)


loads = st.builds(
    Workload,
    batch=st.integers(1, 64),
    input_tokens=st.integers(1, 900),
    output_tokens=st.integers(2, 120),
)


def floor_s(steps, dtype_peaks: np.ndarray, bandwidth_Bps: float) -> float:
    """The longer of all matrix FLOPs at peak and all bytes at full bandwidth."""
    (step,) = steps
    (table,) = step.tables
    tensor = np.isin(table.kinds, ["gemm", "grouped_gemm", "attention", "scan"])
    peaks = dtype_peaks[table.compute.astype(int)]
    flops_s = (table.flops * table.repeat / peaks)[tensor].sum(axis=0)
    bytes_s = (table.bytes_moved_B * table.repeat).sum(axis=0) / bandwidth_Bps
    least = np.maximum(flops_s, bytes_s)
    return float(SHARES @ least) if step.quadrature else float(least)


@settings(max_examples=40, deadline=None)
@given(rates=any_rates(), load_=loads, name=st.sampled_from(MODELS), tp=st.sampled_from((1, 2, 4)))
def test_never_faster_than_light(rates: Rates, load_: Workload, name: str, tp: int) -> None:
    model, plan = load(name), Plan(tp=tp)
    tall = predict(model, SYSTEM, plan, load_, rates, strict=False, queue=False)
    if not np.isfinite(tall.ttft_s):
        return  # does not fit: no time at all
    laid, limits = lay(model, plan), machine(SYSTEM)
    peaks = np.array([SYSTEM.device.peak(dtype) for dtype in COMPUTE])
    bandwidth = SYSTEM.device.memory_bandwidth_Bps
    assert tall.ttft_s >= floor_s(count_prefill(laid, load_), peaks, bandwidth) * (1 - 1e-9)
    assert tall.tpot_s >= floor_s(count_decode(laid, load_), peaks, bandwidth) * (1 - 1e-9)
    light = predict(model, SYSTEM, plan, load_, Rates.ideal(), queue=False)
    assert tall.ttft_s >= light.ttft_s * (1 - 1e-9)
    assert tall.tpot_s >= light.tpot_s * (1 - 1e-9)
    assert limits.memory_Bps == bandwidth


@settings(max_examples=40, deadline=None)
@given(
    rates=any_rates(),
    load_=loads,
    name=st.sampled_from(MODELS),
    grows=st.sampled_from(("batch", "input_tokens", "output_tokens")),
    more=st.integers(1, 300),
)
def test_more_work_takes_no_less_time(
    rates: Rates, load_: Workload, name: str, grows: str, more: int
) -> None:
    numbers = {key: getattr(load_, key) for key in ("batch", "input_tokens", "output_tokens")}
    larger = Workload(**{**numbers, grows: numbers[grows] + more})
    model, plan = load(name), Plan(tp=4)
    limit = model.max_context or 10**9
    if larger.input_tokens + larger.output_tokens > limit:
        return
    big = load_system("H100-SXM")
    small_, large_ = (
        predict(model, big, plan, each, rates, strict=False) for each in (load_, larger)
    )
    if not (np.isfinite(small_.e2e_s) and np.isfinite(large_.e2e_s)):
        return
    assert large_.ttft_s >= small_.ttft_s * (1 - 1e-9)
    assert large_.e2e_s >= small_.e2e_s * (1 - 1e-9)
    assert large_.memory.total_B >= small_.memory.total_B * (1 - 1e-12)


@pytest.mark.parametrize("name", ["llama-3-8b", "mixtral-8x7b", "deepseek-v3"])
@pytest.mark.parametrize("arrival", ["static", "closed_loop"])
def test_an_array_answers_as_its_members_do(name: str, arrival: str) -> None:
    rng = np.random.default_rng(7)
    count = 12
    model = load(name)
    tp = (
        2.0 ** rng.integers(3, 5, count)
        if name == "deepseek-v3"
        else 2.0 ** rng.integers(0, 4, count)
    )
    columns = {
        "batch": rng.integers(1, 64, count).astype(float),
        "input_tokens": rng.integers(2, 2000, count).astype(float),
        "output_tokens": rng.integers(2, 2000, count).astype(float),
    }
    rates = Rates.default().with_values(gemm_half=20.0, kv_splits=3.0, step_s=1e-3, sharpness=3.0)
    plan = Plan(tp=tp, weights="fp8")
    whole = predict(model, SYSTEM, plan, Workload(**columns), rates, arrival, strict=False)
    for index in range(count):
        alone = Workload(**{key: values[index] for key, values in columns.items()})
        one = predict(
            model, SYSTEM, Plan(tp=int(tp[index]), weights="fp8"), alone, rates, arrival,
            strict=False,
        )  # fmt: skip
        for metric in ("ttft_s", "tpot_s", "e2e_s", "total_tok_s"):
            left, right = getattr(whole, metric)[index], float(getattr(one, metric))
            assert left == pytest.approx(right, rel=1e-12, nan_ok=True)


def test_single_efficiency_scales_everything_but_latency() -> None:
    model, load_ = load("llama-3-8b"), Workload(batch=4, input_tokens=512, output_tokens=64)
    full = predict(model, SYSTEM, Plan(), load_, Rates.single(1.0))
    half = predict(model, SYSTEM, Plan(), load_, Rates.single(0.5))
    assert half.tpot_s == pytest.approx(2 * full.tpot_s, rel=1e-12)


@given(st.lists(st.floats(1.0, 1e6), min_size=2, max_size=30))
def test_padding_never_drops_rows_nor_falls(rows: list[float]) -> None:
    sorted_rows = np.sort(np.array(rows))
    whole = padded(sorted_rows, 128.0)
    assert np.all(whole >= sorted_rows)
    assert np.all(np.diff(whole) >= 0)


@given(st.floats(1e-9, 1e3), st.floats(1e-9, 1e3), st.floats(1.0, 64.0))
def test_overlap_lies_between_the_longer_and_the_sum(a: float, b: float, sharpness: float) -> None:
    both = float(smooth_max(np.array(a), np.array(b), sharpness))
    assert max(a, b) * (1 - 1e-12) <= both <= (a + b) * (1 + 1e-12)


@given(st.floats(0.1, 1e6), st.floats(1.0, 1e3))
def test_a_machine_is_never_more_than_full(parallel: float, units: float) -> None:
    share = float(fill(np.array(parallel), units))
    assert 0.0 < share <= 1.0
    assert share <= parallel / units * (1 + 1e-9)


def test_a_lone_query_costs_vector_time() -> None:
    """With nothing else binding, decode attention takes its FLOPs over the vector units' rate."""
    laid = lay(load("llama-2-7b"), Plan())
    (step,) = count_decode(laid, Workload(batch=8, input_tokens=500, output_tokens=2))
    (table,) = step.tables
    free = Rates.ideal()
    slow = time_ops(table, machine(SYSTEM), free.with_values(query_cost=50.0))
    core = table.names.index("attention.core")
    expected_s = 50.0 * table.lone_flops[core] * table.repeat[core] / machine(SYSTEM).vector_flops
    least_s = time_ops(table, machine(SYSTEM), free).compute_s[core]
    np.testing.assert_allclose(slow.compute_s[core], least_s + expected_s, rtol=1e-12)


def test_many_whole_walks_through_the_cache_cost_more() -> None:
    """vLLM's paged kernel stops splitting above 512 queries: only then does the rate cost time."""
    free = Rates.ideal()
    for batch, slower in ((16, False), (17, True)):  # 32 heads each
        (step,) = count_decode(
            lay(load("llama-2-7b"), Plan(engine="vllm-v0")),
            Workload(batch=batch, input_tokens=500, output_tokens=2),
        )
        taken = [
            time_ops(step.tables[0], machine(SYSTEM), rates).total_s.sum()
            for rates in (free, free.with_values(unsplit_cost=1000.0))
        ]
        assert (taken[1] > taken[0]) == slower


def test_experts_have_arithmetic_and_weights_of_their_own() -> None:
    """Kernels of routed experts share no rate of arithmetic with the library's products."""
    asked = Workload(batch=1, input_tokens=4096, output_tokens=2)
    (step,) = count_prefill(lay(load("mixtral-8x7b"), Plan()), asked)
    names = step.tables[0].names
    free = Rates.ideal()

    def taken_s(part: str, **rates: float) -> tuple[float, float]:
        timed = time_ops(step.tables[0], machine(SYSTEM), free.with_values(**rates))
        place = names.index(part)
        return float(timed.compute_s.ravel()[place]), float(timed.memory_s.ravel()[place])

    compute_s, memory_s = taken_s("moe.up")
    assert taken_s("moe.up", expert_gemm_eff=0.5) == pytest.approx((2.0 * compute_s, memory_s))
    assert taken_s("moe.up", gemm_eff_16=0.5) == pytest.approx((compute_s, memory_s))
    assert taken_s("attention.out", expert_gemm_eff=0.5) == taken_s("attention.out")
    streamed = taken_s("moe.up", expert_eff=0.5)
    assert streamed[0] == pytest.approx(compute_s)
    assert memory_s < streamed[1] < 2.0 * memory_s


def test_what_a_processor_pays_costs_no_accelerator_anything() -> None:
    asked = Workload(batch=1, input_tokens=500, output_tokens=2)
    (step,) = count_decode(lay(load("llama-2-7b"), Plan()), asked)
    free = Rates.ideal()
    for name, pays in ((SYSTEM.name, False), ("Xeon-SPR-48c", True)):
        on = machine(load_system(name))
        without, charged = (
            time_ops(step.tables[0], on, rates).overhead_s.sum()
            for rates in (free, free.with_values(linear_s=1e-3))
        )
        assert (charged > without) == pays


def test_engines_bring_their_habits_to_the_count() -> None:
    copying = lay(load("llama-3-8b"), Plan(engine="transformers")).layout
    plain = lay(load("llama-3-8b"), Plan()).layout
    assert (copying.cache_copies, plain.cache_copies) == (1.0, 0.0)
    assert lay(load("llama-3-8b"), Plan(engine="tensorrt-llm-0")).layout.matrix_ratio == 8.0


def test_chunks_stream_through_a_pipeline() -> None:
    """n chunks through p equal stages end after n + p − 1 stage times, where all overlap."""
    asked = Workload(batch=1, input_tokens=2048, output_tokens=2)
    plan = Plan(pp=4, micro_batches=1, chunk_tokens=512, chunks_overlap=True)
    times_s = {}
    for overlap in (0.0, 0.5, 1.0):
        rates = Rates.ideal().with_values(stream_overlap=overlap)
        steps = count_prefill(lay(load("llama-3-8b"), plan), asked)
        times_s[overlap] = float(time_phase(steps, machine(SYSTEM), rates).total_s)
    assert times_s[1.0] / times_s[0.0] == pytest.approx((4 + 4 - 1) / (4 * 4), rel=1e-12)
    assert times_s[0.5] == pytest.approx((times_s[0.0] + times_s[1.0]) / 2, rel=1e-12)
    other = msgspec.structs.replace(plan, chunks_overlap=False)
    waits = time_phase(count_prefill(lay(load("llama-3-8b"), other), asked), machine(SYSTEM), rates)
    assert float(waits.total_s) == pytest.approx(times_s[0.0], rel=1e-12)
