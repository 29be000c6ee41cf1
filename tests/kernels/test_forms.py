"""Kernel forms: the speed of light, monotonicity, broadcasting, hot caches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analyzer.timing.kernels import FORMS, Chip
from analyzer.timing.kernels.common import hot_factor, soft_max, waves
from analyzer.timing.kernels.decode import DecodeParams, DecodeWork, decode_time
from analyzer.timing.kernels.experts import ExpertParams, ExpertWork, experts_time, touched_experts
from analyzer.timing.kernels.gemm import GemmParams, GemmWork, gemm_time
from analyzer.timing.kernels.prefill import PrefillParams, PrefillWork, prefill_time
from analyzer.timing.kernels.stream import StreamParams, StreamWork, stream_time

CHIP = Chip(peak_Fps=1e15, memory_Bps=3.35e12, units=132.0, l2_B=50e6)
sizes = st.integers(0, 14).map(lambda power: float(2**power))


@pytest.mark.parametrize("name", FORMS)
def test_parameters_are_the_fields_and_defaults_lie_within_bounds(name: str) -> None:
    form = FORMS[name]
    assert tuple(form.parameters) == form.params.__struct_fields__  # type: ignore[attr-defined]
    for key, entry in form.parameters.items():
        assert entry.low <= entry.default <= entry.high
        assert getattr(form.params(), key) == entry.default


@given(m=sizes, n=sizes, k=sizes)
@settings(max_examples=40, deadline=None)
def test_gemm_is_never_faster_than_light(m: float, n: float, k: float) -> None:
    light = max(2 * m * n * k / CHIP.peak_Fps, 2 * (n * k + m * k + m * n) / CHIP.memory_Bps)
    ideal = gemm_time(GemmWork(m, n, k), CHIP, GemmParams.ideal())
    assert ideal >= light * (1 - 1e-12)
    assert gemm_time(GemmWork(m, n, k), CHIP, GemmParams()) > ideal


def test_ideal_gemm_meets_the_roofline_where_tiles_fill_the_machine() -> None:
    m, n, k = 128.0 * 132, 128.0 * 64, 8192.0
    light = 2 * m * n * k / CHIP.peak_Fps
    assert gemm_time(GemmWork(m, n, k), CHIP, GemmParams.ideal()) == pytest.approx(light, rel=1e-9)
    thin = gemm_time(GemmWork(1.0, n, k), CHIP, GemmParams.ideal())
    assert thin == pytest.approx(2 * (n * k + k + n) / CHIP.memory_Bps, rel=0.02)


def test_one_wave_more_costs_one_wave() -> None:
    assert waves(np.asarray(132.0), 132.0, 0.0) == 1.0
    assert waves(np.asarray(133.0), 132.0, 0.0) == 2.0
    assert waves(np.asarray(133.0), 132.0, 1.0) == pytest.approx(133 / 132)
    assert waves(np.asarray(5.0), 132.0, 1.0) == 1.0


@given(a=st.floats(0, 1e3), b=st.floats(1e-9, 1e3), p=st.floats(1, 64))
def test_soft_max_lies_between_maximum_and_sum(a: float, b: float, p: float) -> None:
    got = soft_max(np.asarray(a), np.asarray(b), p)
    assert max(a, b) * (1 - 1e-12) <= got <= (a + b) * (1 + 1e-12)


def test_narrowing_activations_is_a_pass_of_its_own() -> None:
    params = GemmParams(quantise_s=2e-6, quantise_eff=0.5)
    plain = gemm_time(GemmWork(512.0, 4096.0, 4096.0, 1.0, 1.0), CHIP, params)
    passed = gemm_time(GemmWork(512.0, 4096.0, 4096.0, 1.0, 1.0, narrowed=1.0), CHIP, params)
    assert passed - plain == pytest.approx(2e-6 + 512 * 4096 * 3 / (3.35e12 * 0.5), rel=1e-9)


def test_hot_weights_only_help_where_they_fit_the_cache() -> None:
    params = GemmParams(hot_gain=3.0)
    small, large = GemmWork(1.0, 1024.0, 1024.0), GemmWork(1.0, 16384.0, 16384.0)
    assert gemm_time(small._replace(hot_copies=6.0), CHIP, params) < gemm_time(small, CHIP, params)
    assert gemm_time(large._replace(hot_copies=6.0), CHIP, params) == gemm_time(large, CHIP, params)


def test_data_falls_out_of_the_cache_around_its_size() -> None:
    """Six copies, read in turn: all kept up to 0.7 of the cache, none from 1.1 on."""
    filled = np.array([0.1, 0.7, 0.9, 1.1, 1.5])
    gain = hot_factor(filled * 50e6 / 6.0, 50e6, 6.0, 3.0)
    assert gain == pytest.approx([3.0, 3.0, 2.0, 1.0, 1.0])
    assert hot_factor(np.asarray(1e6), 50e6, 0.0, 3.0) == 1.0


def test_the_power_limit_slows_kernels_that_last_and_no_others() -> None:
    params = GemmParams(sustained_share=0.5, burst_s=1e-2)
    cool = GemmParams(sustained_share=1.0, burst_s=1e-2)
    short, lasting = GemmWork(1024.0, 4096.0, 4096.0), GemmWork(262144.0, 32768.0, 32768.0)
    assert gemm_time(short, CHIP, params) == pytest.approx(gemm_time(short, CHIP, cool), rel=1e-3)
    ratio = gemm_time(lasting, CHIP, params) / gemm_time(lasting, CHIP, cool)
    assert ratio == pytest.approx(2.0, rel=1e-2)


def test_kernels_for_vectors_stream_worse_by_the_share_of_missing_rows() -> None:
    params = GemmParams(few_rows=0.5, few_fill=0.0, launch_s=0.0, sharpness=64.0)
    plain = GemmParams(few_rows=0.0, few_fill=0.0, launch_s=0.0, sharpness=64.0)
    for rows in (1.0, 4.0, 64.0):
        work = GemmWork(rows, 16384.0, 16384.0)
        ratio = gemm_time(work, CHIP, params) / gemm_time(work, CHIP, plain)
        assert ratio == pytest.approx(1.0 + 0.5 / rows, rel=1e-3)


@pytest.mark.parametrize(
    ("sequences", "kv_heads", "heads", "moved"),
    [(4, 8, 32, True), (1, 8, 32, False), (4, 1, 8, False), (4, 8, 8, False)],
)
def test_queries_are_copied_only_where_they_do_not_lie_together(
    sequences: float, kv_heads: float, heads: float, moved: bool
) -> None:
    work = DecodeWork(float(sequences), 1024.0, float(heads), float(kv_heads))
    with_copy = decode_time(work, CHIP, DecodeParams(regroup_s=5e-6))
    without = decode_time(work, CHIP, DecodeParams(regroup_s=0.0))
    assert with_copy - without == pytest.approx(5e-6 if moved else 0.0, abs=1e-12)


@given(batch=sizes.filter(lambda x: x <= 512), keys=sizes, heads=st.sampled_from([8.0, 32.0]))
@settings(max_examples=40, deadline=None)
def test_decode_is_never_faster_than_reading_the_cache(
    batch: float, keys: float, heads: float
) -> None:
    work = DecodeWork(batch, keys, heads, 8.0)
    light = 2 * batch * keys * 8 * 128 * 2 / CHIP.memory_Bps
    ideal = decode_time(work, CHIP, DecodeParams.ideal())
    assert ideal >= light
    assert decode_time(work, CHIP, DecodeParams()) > ideal


def test_an_unsplit_kernel_leaves_one_long_sequence_to_few_processors() -> None:
    work = DecodeWork(1.0, 65536.0, 8.0, 8.0)
    split = decode_time(work, CHIP, DecodeParams())
    unsplit = decode_time(work, CHIP, DecodeParams(mha_unsplit=1.0))
    assert unsplit > 5 * split
    shared = DecodeWork(1.0, 65536.0, 32.0, 8.0)
    assert decode_time(shared, CHIP, DecodeParams(mha_unsplit=1.0)) == decode_time(
        shared, CHIP, DecodeParams()
    )


@given(batch=st.sampled_from([1.0, 4.0]), new=sizes, past=sizes)
@settings(max_examples=40, deadline=None)
def test_prefill_is_never_faster_than_light(batch: float, new: float, past: float) -> None:
    work = PrefillWork(batch, new, past, 32.0, 8.0)
    pairs = new * past + new * (new + 1) / 2
    light = 4 * batch * 32 * 128 * pairs / CHIP.peak_Fps
    ideal = prefill_time(work, CHIP, PrefillParams.ideal())
    assert ideal >= light * (1 - 1e-12)
    assert prefill_time(work, CHIP, PrefillParams()) > ideal


def test_long_prefill_meets_the_peak_on_an_ideal_machine() -> None:
    work = PrefillWork(1.0, 131072.0, 0.0, 32.0, 8.0)
    light = 4 * 32 * 128 * (131072.0 * 131073 / 2) / CHIP.peak_Fps
    assert prefill_time(work, CHIP, PrefillParams.ideal()) == pytest.approx(light, rel=0.01)


def test_experts_stream_what_was_touched() -> None:
    ideal = ExpertParams.ideal()
    few = experts_time(ExpertWork(8.0, 8.0, 4096.0, 1536.0), CHIP, ideal)
    many = experts_time(ExpertWork(128.0, 128.0, 4096.0, 1536.0), CHIP, ideal)
    assert few >= 8 * 3 * 4096 * 1536 * 2 / CHIP.memory_Bps
    assert many / few == pytest.approx(16.0, rel=0.02)
    assert touched_experts(1, 128, 8) == pytest.approx(8.0)
    assert touched_experts(10_000, 128, 8) == pytest.approx(128.0)


def test_replayed_experts_are_read_from_the_cache_where_they_fit() -> None:
    params = ExpertParams(hot_gain=4.0)
    few, many = ExpertWork(2.0, 2.0, 2048.0, 768.0), ExpertWork(128.0, 128.0, 4096.0, 1536.0)
    assert experts_time(few._replace(hot_copies=1.0), CHIP, params) < experts_time(
        few, CHIP, params
    )
    assert experts_time(many._replace(hot_copies=1.0), CHIP, params) == experts_time(
        many, CHIP, params
    )


def test_stream_is_bytes_over_bandwidth() -> None:
    ideal = stream_time(StreamWork(1e9), CHIP, StreamParams.ideal())
    assert ideal == pytest.approx(1e9 / 3.35e12, rel=1e-12)


WORKS: list[tuple[str, Any, tuple[str, ...]]] = [
    ("gemm", GemmWork(64.0, 4096.0, 4096.0), ("m", "n", "k")),
    ("attn_decode", DecodeWork(8.0, 2048.0, 32.0, 8.0), ("sequences", "keys")),
    ("attn_prefill", PrefillWork(1.0, 512.0, 0.0, 32.0, 8.0), ("sequences", "new", "past")),
    ("moe", ExpertWork(64.0, 64.0, 4096.0, 1536.0), ("rows", "hidden", "width")),
    ("stream", StreamWork(1e6), ("moved_B",)),
]


@pytest.mark.parametrize(("name", "work", "grown"), WORKS)
def test_more_work_takes_longer(name: str, work: Any, grown: tuple[str, ...]) -> None:
    """Over doublings; between them a shape that fills the machine may beat a smaller one."""
    form = FORMS[name]
    for field in grown:
        doubled = (1.0 if getattr(work, field) == 0 else getattr(work, field)) * 4.0 ** np.arange(7)
        seconds = form.time(work._replace(**{field: doubled}), CHIP, form.params())
        assert np.all(np.diff(seconds) > 0), field


@pytest.mark.parametrize(("name", "work", "grown"), WORKS)
def test_arrays_agree_with_scalars(name: str, work: Any, grown: tuple[str, ...]) -> None:
    form, field = FORMS[name], grown[0]
    values = getattr(work, field) * np.array([1.0, 3.0, 7.0, 100.0])
    chip = Chip(CHIP.peak_Fps * np.array([[1.0], [2.0]]), CHIP.memory_Bps, CHIP.units, CHIP.l2_B)
    timed = form.time(work._replace(**{field: values}), chip, form.params())
    together = np.broadcast_to(timed, (2, 4))
    for row, peak in zip(together, (1e15, 2e15), strict=True):
        for seconds, value in zip(row, values, strict=True):
            alone = form.time(
                work._replace(**{field: value}), CHIP._replace(peak_Fps=peak), form.params()
            )
            assert seconds == pytest.approx(float(alone), rel=1e-12)
