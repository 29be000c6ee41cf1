"""Number formats, adapters, engines: bytes follow the format, small operators are there."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from analyzer.counting import Layout, count, steps
from analyzer.counting.footprint import weights_B
from analyzer.errors import ConfigError
from analyzer.model import MoE
from analyzer.optable import COMPUTE_INDEX, OpTable
from analyzer.precision import ALIASES, FORMATS, lookup, stated
from analyzer.unpacking import IN_KERNEL

from .models import DENSE, GQA, HIDDEN, MODELS, model

STEP = steps.decode(8, 100)


def row(table: OpTable, name: str) -> int:
    return table.names.index(name)


def column(table: OpTable, name: str, field: str) -> float:
    return float(getattr(table, field)[row(table, name)])


def test_four_bit_weights_sixteen_bit_arithmetic() -> None:
    wide = count(MODELS["dense"], STEP, Layout())
    narrow = count(MODELS["dense"], STEP, Layout(weight_B=4.25 / 8, unpacking=IN_KERNEL))
    for name in ("attention.qkv", "ffn.up", "ffn.down"):
        assert column(narrow, name, "weight_B") == column(wide, name, "weight_B") * 4.25 / 16
        assert column(narrow, name, "compute") == COMPUTE_INDEX["bf16"]
        assert column(narrow, name, "weight_bits") == 4.25
        assert column(narrow, name, "act_B") == column(wide, name, "act_B")
    assert column(narrow, "head", "weight_B") == column(wide, "head", "weight_B")
    weights = HIDDEN * (8 + 2 * 4) * 16 + 8 * 16 * HIDDEN + 3 * HIDDEN * DENSE.width
    inside = sum(
        column(narrow, name, "vector_flops")
        for name in ("attention.qkv", "attention.out", "ffn.up", "ffn.down")
    )
    assert inside == 2 * weights
    assert column(narrow, "ffn.down", "vector_flops") == 2 * HIDDEN * DENSE.width
    assert narrow.total("launches") == wide.total("launches")


def test_narrow_arithmetic_narrows_activations() -> None:
    fp8 = Layout(weight_B=1.0, compute=COMPUTE_INDEX["fp8"], quantise_activations=1.0)
    wide, narrow = (count(MODELS["dense"], STEP, layout) for layout in (Layout(), fp8))
    inputs = 8 * (2 * HIDDEN + 128 + DENSE.width)
    assert column(narrow, "quantise", "act_B") == inputs * (2 + 1)
    assert column(narrow, "quantise", "launches") == 4
    saved = column(wide, "ffn.up", "act_B") - column(narrow, "ffn.up", "act_B")
    assert saved == 8 * HIDDEN
    assert "dequantise" not in narrow.names


def test_only_narrow_experts_are_widened() -> None:
    """Four-bit experts in a sixteen-bit model: the attention's weights need no widening."""
    layout = Layout(expert_weight_B=0.53, expert_compute=2.0, unpacking=IN_KERNEL)
    table = count(model((GQA, MODELS["experts"].layers[0].ffn)), STEP, layout)
    touched = float(table.groups[row(table, "moe.up")])
    inside = [column(table, name, "vector_flops") for name in ("moe.up", "moe.down")]
    assert sum(inside) == pytest.approx(2 * touched * 3 * HIDDEN * 64)
    assert column(table, "attention.qkv", "vector_flops") == 0


def test_narrow_cache() -> None:
    wide, narrow = (count(MODELS["dense"], STEP, Layout(kv_B=size)) for size in (2.0, 1.0))
    assert wide.total("kv_B") == 2 * narrow.total("kv_B")
    read = 8 * 101 * 2 * 4 * 16 * 2
    assert column(wide, "attention.core", "kv_B") == read
    assert column(wide, "attention.prepare", "kv_B") == 8 * 2 * 4 * 16 * 2


def test_copied_cache() -> None:
    """An engine that concatenates reads and writes the whole cache once more each step."""
    copied = count(MODELS["dense"], STEP, Layout(cache_copies=1.0))
    plain = count(MODELS["dense"], STEP, Layout())
    extra = copied.total("kv_B") - plain.total("kv_B")
    assert extra == 2 * (2 * 8 * 100 * 2 * 4 * 16 * 2)


def test_eager_engines_launch_and_move_more() -> None:
    fused, eager = (count(MODELS["local"], STEP, Layout(fused=way)) for way in (True, False))
    assert eager.total("launches") > 2 * fused.total("launches")
    assert eager.total("act_B") > fused.total("act_B")
    assert eager.total("flops") == fused.total("flops")


def test_a_fused_dense_layer_is_ten_kernels() -> None:
    """Two norms, qkv, RoPE, cache write, attention, out, up, activation, down."""
    layer = count(MODELS["dense"], STEP, Layout(), slice(0, 1), False, False)
    assert layer.total("launches") == 10


def test_adapters() -> None:
    plain = count(MODELS["dense"], STEP, Layout())
    table = count(MODELS["dense"], STEP, Layout(lora_rank=16.0, lora_adapters=3.0))
    extra = {
        field: float(table.total(field) - plain.total(field)) for field in ("flops", "weight_B")
    }
    shrunk = 3 * HIDDEN + 128 + 2 * HIDDEN + DENSE.width
    grown = 256 + HIDDEN + 2 * DENSE.width + HIDDEN
    assert extra["flops"] == 2 * (2 * 8 * 16 * (shrunk + grown))
    assert extra["weight_B"] == 2 * (3 * 16 * (shrunk + grown) * 2)
    held = weights_B(MODELS["dense"], Layout(lora_rank=16.0, lora_adapters=3.0))
    assert held - weights_B(MODELS["dense"], Layout()) == extra["weight_B"]


def test_every_small_operator_is_there() -> None:
    names = set(count(MODELS["dense"], STEP, Layout()).names)
    assert {"embedding", "norms", "attention.prepare", "ffn.act", "final_norm", "sampling"} <= names


def test_softmax_is_vector_work() -> None:
    table = count(MODELS["dense"], STEP, Layout())
    assert column(table, "attention.core", "vector_flops") == 5 * 8 * 8 * 101


def test_one_query_per_head_is_a_vector() -> None:
    """Decoding multiplies vectors, prefill matrices; a kernel for that ratio makes it a matrix."""
    decode = count(MODELS["dense"], STEP, Layout())
    ratio = column(decode, "attention.core", "heads_per_group")
    lone = column(decode, "attention.core", "lone_flops")
    assert lone == column(decode, "attention.core", "flops") > 0
    packed = count(MODELS["dense"], STEP, Layout(matrix_ratio=ratio))
    assert column(packed, "attention.core", "lone_flops") == 0
    assert (
        column(
            count(MODELS["dense"], steps.prefill(2, 50), Layout()), "attention.core", "lone_flops"
        )
        == 0
    )


def test_keys_stay_whole_where_there_are_many_queries() -> None:
    """More queries than the engine splits for: all of them unsplit; as many, or no limit: none."""
    free = count(MODELS["dense"], STEP, Layout())
    queries = column(free, "attention.core", "heads_per_group") * column(
        free, "attention.core", "groups"
    )
    for most, share in ((0.0, 0.0), (queries, 0.0), (queries - 1.0, 1.0)):
        table = count(MODELS["dense"], STEP, Layout(split_heads=most))
        unsplit = column(table, "attention.core", "unsplit_flops")
        assert unsplit == share * column(table, "attention.core", "lone_flops")
    long = count(MODELS["dense"], steps.decode(8, 9000), Layout(split_heads=queries - 1.0))
    assert column(long, "attention.core", "unsplit_flops") == 0, "long contexts are always split"


def test_unsplit_walks_crowd_less_where_a_model_reads_less() -> None:
    """Room for scores is set aside for the model's longest context, up to 8,192 keys; a model whose
    limit is lifted for a sweep keeps its room."""
    busy = Layout(split_heads=1.0)
    whole = column(count(MODELS["dense"], STEP, busy), "attention.core", "lone_flops")
    for longest, share in ((2048, 0.25), (4096, 0.5), (8192, 1.0), (131072, 1.0), (None, 1.0)):
        limited = msgspec.structs.replace(MODELS["dense"], max_context=longest)
        for kind in (limited, limited.unlimited()):
            unsplit = column(count(kind, STEP, busy), "attention.core", "unsplit_flops")
            assert unsplit == share * whole


def test_eager_engines_visit_every_expert() -> None:
    """One more expert of the same top-k is a few more launches, touched or not; fused: none."""
    for fused, more in ((False, 6.0), (True, 0.0)):
        few, many = (
            count(model((GQA, MoE(experts=n, top_k=3, width=64))), STEP, Layout(fused=fused))
            for n in (16, 17)
        )
        starts = column(many, "moe.route", "launches") - column(few, "moe.route", "launches")
        assert starts == more


def test_no_row_divides_by_zero() -> None:
    """Sizes that timing divides by are positive in every row of every model."""
    for small in MODELS.values():
        table = count(small, STEP, Layout(tp=2.0))
        for field in ("m", "n", "k", "groups", "ranks", "stride", "heads_per_group"):
            assert (getattr(table, field) > 0).all(), (small.name, field)
        assert all(np.isfinite(table.columns[field]).all() for field in table.columns)


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("FP8 (e4m3)", "fp8"),
        ("float8_e4m3fn", "fp8"),
        ("fp8_block", "fp8-block"),
        ("FP8 (block)", "fp8-block"),
        ("W4A16", "int4-awq-g128"),
        ("int4_awq", "int4-awq"),
        ("awq_marlin", "int4-awq-g128"),
        ("GPTQ-Int4", "int4-gptq"),
        ("w4a8_awq", "w4a8"),
        ("modelopt_fp4", "nvfp4"),
        ("MXFP4_MOE", "mxfp4"),
        ("Q4_K_M", "q4_k_m"),
        ("IQ4_XS", "iq4_xs"),
        ("llm.int8()", "bnb-int8"),
    ],
)
def test_formats_by_the_names_that_tables_use(spelling: str, name: str) -> None:
    assert lookup(spelling) is FORMATS[name]


def test_every_other_name_leads_to_a_format_and_hides_none() -> None:
    assert {lookup(alias).name for alias in ALIASES} <= set(FORMATS)
    assert not set(ALIASES) & set(FORMATS)
    assert all(lookup(name).name == name for name in FORMATS)


def test_files_of_fewer_bits_by_name_are_smaller() -> None:
    order = ("iq1_s", "iq2_xxs", "q2_k", "q3_k_s", "q3_k_l", "q4_k_s", "q5_k_m", "q6_k", "q8_0")
    sizes = [FORMATS[name].bytes_per_value for name in order]
    assert sizes == sorted(set(sizes))


def test_what_is_left_to_the_engine_is_not_stated() -> None:
    assert stated("auto") == ""
    assert stated("fp8") == "fp8"
    with pytest.raises(ConfigError, match="unknown number format 'exl2'"):
        lookup("exl2")
