"""Files of llama.cpp that mix types come out as large as its own tools say they are."""

from __future__ import annotations

import msgspec
import pytest

from analyzer import models_catalog
from analyzer.counting.footprint import weights_B
from analyzer.counting.parameters import count_parameters
from analyzer.kquants import RECIPES, mixed_bits
from analyzer.model import MoE
from analyzer.plan import Plan, layout

from .models import DENSE, GQA, HIDDEN, model

LLAMA_3_8B = "meta-llama/Meta-Llama-3-8B"
GIB = 2.0**30
PRINTED = {
    "q3_k_m": 3.74,
    "q4_0": 4.34,
    "q4_k_s": 4.37,
    "q4_k_m": 4.58,
    "q5_k_m": 5.33,
}
"""GiB of Llama-3-8B as llama.cpp's `quantize` lists them in its help, to two decimals."""


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_sizes_that_the_quantiser_prints(name: str) -> None:
    """To the rounding of the list and the megabytes of tokeniser that a file carries besides."""
    llama = models_catalog.load(LLAMA_3_8B)
    held = float(weights_B(llama, layout(llama, Plan(weights=name)))) / GIB
    assert PRINTED[name] - 0.005 - 0.009 <= held <= PRINTED[name] + 0.005


def test_every_recipe_has_a_printed_size() -> None:
    assert set(PRINTED) == set(RECIPES)


def test_seventy_billion() -> None:
    """Eighty layers of grouped attention keep value projections at Q5_K or wider: llama-bench
    prints 39.59 GiB for Llama-3-70B."""
    llama = models_catalog.load("meta-llama/Meta-Llama-3-70B")
    held = float(weights_B(llama, layout(llama, Plan(weights="q4_k_m")))) / GIB
    assert held == pytest.approx(39.59, abs=0.005)


def test_sixteen_layers_by_hand() -> None:
    """Layers 0, 1, 14, 15 and 4, 7, 10, 13 are wide; a tied table serves as head, so is wide."""
    small = model(*[(GQA, DENSE)] * 16)
    wide = 8 * (HIDDEN * 4 * 16 + DENSE.width * HIDDEN)
    every = 16 * (HIDDEN * (8 + 2 * 4) * 16 + 8 * 16 * HIDDEN + 3 * HIDDEN * DENSE.width)
    mixed = mixed_bits("q4_k_m", small)
    assert mixed is not None
    assert mixed.linears * every == pytest.approx(4.5 * every + (6.5625 - 4.5) * wide)
    assert (mixed.embedding, mixed.head) == (4.5, 6.5625)
    tied = mixed_bits("q4_k_m", msgspec.structs.replace(small, tied_embeddings=True))
    assert tied is not None
    assert tied.embedding == 6.5625


def test_eight_experts_keep_their_attention_wide() -> None:
    """Q8_0 for keys and values and Q5_K for outputs; expert outputs as in dense models."""
    experts = MoE(experts=8, top_k=2, width=64)
    small = model(*[(GQA, experts)] * 16)
    attention = 16 * (2 * 4 * 16 * HIDDEN * (8.5 - 4.5) + 8 * 16 * HIDDEN * (5.5 - 4.5))
    down = 8 * 8 * 64 * HIDDEN * (6.5625 - 4.5)
    counted = count_parameters(small)
    mixed = mixed_bits("q4_k_m", small)
    assert mixed is not None
    more = (mixed.linears - 4.5) * (counted.mixer + counted.ffn)
    assert more == pytest.approx(attention + down)


def test_one_type_for_all_needs_no_recipe() -> None:
    assert mixed_bits("q8_0", model((GQA, DENSE))) is None
