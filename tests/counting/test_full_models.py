"""Released models at full size: recorded figures of transformers, and transformers run here.

Recorded with transformers 5.23 and torch 2.13 on the meta device, 512 tokens, logits of all;
`convolutions` are the share of the causal filters, which torch counts and we hold to be vector
work.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from analyzer.counting import Layout, Segment, Step, count, steps
from analyzer.counting.cache import cache_B
from analyzer.counting.footprint import weights_B
from analyzer.hf.registry import from_config
from analyzer.model import Model

from . import oracle, released
from .explained import core_flops, masked_core_flops, matrix_flops

LAYOUT = Layout(absorb_mla=False, state_B=4.0)
PROMPT = 512


class Recorded(NamedTuple):
    parameters: int
    cache_B: int
    decode_flops: float
    prefill_flops: float
    cached: int = PROMPT
    """Tokens behind the cache and the decode step."""
    counters_B: int = 0
    """Integers that transformers keeps beside a windowed cache."""
    convolutions: float = 0.0


RECORDED = {
    "Llama-3-70B": Recorded(70_553_706_496, 167_772_160, 140_348_227_584, 71_856_950_345_728),
    "Mixtral-8x7B": Recorded(46_702_792_704, 67_108_864, 25_766_133_760, 13_191_992_049_664),
    "DeepSeek-V3": Recorded(671_026_404_352, 35_979_264, 1.1238e12, 3.881355e13),
    "Qwen3-235B-A22B": Recorded(235_093_634_560, 98_566_144, 44_715_409_408, 2.289271e13),
    "Qwen3-30B-A3B": Recorded(30_532_122_624, 50_331_648, 6_486_753_280, 3.320815e12),
    "Qwen3-Next-80B-A3B": Recorded(
        79_674_391_296, 90_439_680, 7_230_324_736, 3.787598e12, convolutions=1e-3
    ),
    "Mamba2-2.7B": Recorded(
        2_702_599_680, 170_524_672, 5_490_130_944, 3.110949e12, convolutions=1.1e-3
    ),
    "Jamba-v0.1": Recorded(
        51_570_323_328, 17_563_648, 23_687_921_664, 1.214228e13, cached=64, convolutions=2e-4
    ),
    "gpt-oss-120b": Recorded(
        116_829_156_672, 23_556_240, 10_451_238_912, 5.408865e12, counters_B=18 * 8
    ),
    "gpt-oss-20b": Recorded(
        20_914_757_184, 15_704_160, 7_340_310_528, 3.796793e12, counters_B=12 * 8
    ),
    "Gemma3-27B": Recorded(
        27_009_346_304, 260_047_264, 54_537_093_120, 2.792247e13, counters_B=52 * 8
    ),
}
ROUNDING = 1e-6
EXPANDED_DECODE = 2e-5
"""DeepSeek-V3's decode figure was recorded to five digits."""


def model(name: str) -> Model:
    return from_config(released.full(name).to_dict(), name)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_weights_and_cache(name: str) -> None:
    truth, ours = RECORDED[name], model(name)
    assert weights_B(ours, LAYOUT) == 2 * truth.parameters
    cached = cache_B(ours, LAYOUT, float(truth.cached)).total_B
    assert cached + truth.counters_B == truth.cache_B


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_prefill(name: str) -> None:
    """Every position through the head, and pairs that are masked out after all."""
    truth, ours = RECORDED[name], model(name)
    table = count(ours, Step((Segment(1.0, PROMPT, 0.0, logits=PROMPT),)), LAYOUT)
    flops = matrix_flops(table) + masked_core_flops(ours, 1, PROMPT, 0)
    assert flops == pytest.approx(truth.prefill_flops, rel=ROUNDING + truth.convolutions)


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_decode(name: str) -> None:
    truth, ours = RECORDED[name], model(name)
    table = count(ours, steps.decode(1, truth.cached), LAYOUT)
    flops = matrix_flops(table) + masked_core_flops(ours, 1, 1, truth.cached)
    allowed = ROUNDING + truth.convolutions + EXPANDED_DECODE * (name == "DeepSeek-V3")
    assert flops == pytest.approx(truth.decode_flops, rel=allowed)


@pytest.mark.parametrize("name", released.FULL)
def test_against_transformers_now(name: str) -> None:
    """The installed transformers agrees to the last FLOP; the head runs on one position."""
    new, ours = 96, model(name)
    built = oracle.build(released.full(name))
    prefill = oracle.run(built, 1, new)
    table = count(ours, steps.prefill(1, new), LAYOUT)
    assert matrix_flops(table) + masked_core_flops(ours, 1, new, 0) == pytest.approx(
        prefill.flops, rel=1e-12
    )
    decode = oracle.run(built, 1, 1, prefill.cache)
    table = count(ours, steps.decode(1, new), LAYOUT)
    assert matrix_flops(table) + masked_core_flops(ours, 1, 1, new) == pytest.approx(
        decode.flops, rel=1e-12
    )


def test_a_server_spends_less_than_transformers() -> None:
    """What the causal half, latent absorption and single head positions save, to five digits."""
    ours = model("DeepSeek-V3")
    absorbed = count(ours, steps.decode(1, PROMPT), Layout())
    flops = matrix_flops(absorbed) + core_flops(absorbed)
    per_layer = 2 * 128 * (PROMPT + 1) * (2 * 512 + 64)
    linear = matrix_flops(count(ours, steps.decode(1, 0), Layout()))
    assert flops == pytest.approx(linear + 61 * per_layer, rel=1e-12)
    assert flops < 0.075 * RECORDED["DeepSeek-V3"].decode_flops


def test_deepseek_on_six_nodes_of_eight() -> None:
    """tp=8, pp=6: 671 B parameters in all, and no collective spans more than the 8 ranks."""
    ours, step = model("DeepSeek-V3"), steps.decode(8, PROMPT)
    cuts = [slice(start, start + 11) for start in range(0, 61, 11)]
    ends = [(cut.start == 0, cut.stop >= 61) for cut in cuts]
    held = [weights_B(ours, Layout(), cut, *end) for cut, end in zip(cuts, ends, strict=True)]
    assert sum(held) == 2 * RECORDED["DeepSeek-V3"].parameters
    for cut, end in zip(cuts, ends, strict=True):
        table = count(ours, step, Layout(tp=8.0), cut, *end)
        used = [row for row, kind in enumerate(table.collectives) if kind != "none"]
        assert used
        assert set(table.ranks[used]) == {8.0}
