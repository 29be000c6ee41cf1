"""Bits per value of the files that llama.cpp writes, whose matrices do not all have one type.

Its quantiser gives some matrices a wider type than the file is called by: value projections and
FFN outputs of some layers, and the head always. The rules are those of its source
(`llama_tensor_get_type`). Left out: the rules for matrices that hold query, key and value in one
(Falcon, Phi-3), and those for rows that are no multiple of 256. Norms stay wide anyway.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from analyzer.counting.alike import Same
from analyzer.counting.parameters import count_parameters
from analyzer.model import Attention, Model, MoE

Q3_K, Q4_K, Q5_K, Q6_K, Q8_0 = 3.4375, 4.5, 5.5, 6.5625, 8.5
"""Bits per value with the scales: 110, 144, 176 and 210 bytes for 256 values, 34 for 32."""
Q4_0 = 4.5
EIGHT_EXPERTS = 8
"""Experts of the models (Mixtral) whose small attention is kept wider."""
SEVENTY = 80
"""Layers of the 70B models, whose value projections are small and so never below Q5_K."""

Bits = Callable[[int, int], float]
"""Bits per value of the matrix in the i-th of n layers."""


class Recipe(NamedTuple):
    """Which types one kind of file mixes."""

    base: float
    value: Bits
    down: Bits
    out: float
    """Bits of the attention's output projection."""
    k_types: bool = True
    """True where the base is a K type, which the 70B rule widens."""


class Mixed(NamedTuple):
    """Mean bits per value: of the layers' matrices, of the token table, of the head."""

    linears: float
    embedding: float
    head: float


def _same(bits: float) -> Bits:
    return lambda index, layers: bits


def _outer_and_thirds(wide: float, base: float) -> Bits:
    """Wide in the first and last eighth of the layers, and in every third between them."""

    def bits(index: int, layers: int) -> float:
        eighth = layers // 8
        outer = index < eighth or index >= 7 * layers // 8
        return wide if outer or (index - eighth) % 3 == 2 else base

    return bits


def _first(count: Callable[[int], int], wide: float, base: float) -> Bits:
    """Wide in the first layers, `count` of them in a model of so many."""
    return lambda index, layers: wide if index < count(layers) else base


def _medium(base: float) -> Recipe:
    more = _outer_and_thirds(Q6_K, base)
    return Recipe(base, value=more, down=more, out=base)


RECIPES: dict[str, Recipe] = {
    "q5_k_m": _medium(Q5_K),
    "q4_k_m": _medium(Q4_K),
    "q4_k_s": Recipe(
        Q4_K,
        value=_first(lambda layers: 4, Q5_K, Q4_K),
        down=_first(lambda layers: layers // 8, Q5_K, Q4_K),
        out=Q4_K,
    ),
    "q3_k_m": Recipe(
        Q3_K,
        value=_first(lambda layers: 2, Q5_K, Q4_K),
        down=_first(lambda layers: layers // 16, Q5_K, Q4_K),
        out=Q4_K,
    ),
    "q4_0": Recipe(Q4_0, value=_same(Q4_0), down=_same(Q4_0), out=Q4_0, k_types=False),
}


def mixed_bits(name: str, model: Model) -> Mixed | None:
    """Bits of `model` in files of the format `name`; None where one type serves for all."""
    recipe = RECIPES.get(name)
    return None if recipe is None else _remembered(name, Same(model))


def _mix(name: str, key: Same) -> Mixed:
    model: Model = key.value
    recipe = RECIPES[name]
    counted = count_parameters(model)
    extra = _wider_attention(model, recipe) + _wider_ffn(model, recipe)
    linears = recipe.base + extra / max(counted.mixer + counted.ffn, 1)
    table = Q6_K if model.tied_embeddings else recipe.base
    return Mixed(linears, table, Q6_K)


_remembered = lru_cache(maxsize=512)(_mix)


def _wider_attention(model: Model, recipe: Recipe) -> float:
    """Bits of all attentions beyond what they took in the base type."""
    own = [layer for layer in model.layers if not layer.weights_shared]
    pairs = [(x.mixer, x.ffn) for x in own if isinstance(x.mixer, Attention)]
    pairs = [(mixer, ffn) for mixer, ffn in pairs if not (mixer.shares_kv or mixer.key_is_value)]
    total = 0.0
    for index, (mixer, ffn) in enumerate(pairs):
        value, key, out = recipe.value(index, len(pairs)), recipe.base, recipe.out
        if recipe.k_types and len(model.layers) == SEVENTY and mixer.kv_heads < mixer.heads:
            value = max(value, Q5_K)
        if isinstance(ffn, MoE) and ffn.experts == EIGHT_EXPERTS:
            value, key, out = Q8_0, Q8_0, Q5_K if recipe.k_types else out
        width = mixer.v_head_dim or mixer.head_dim
        inputs = mixer.input_width or model.hidden
        total += inputs * mixer.kv_heads * width * (value - recipe.base)
        total += inputs * mixer.kv_heads * mixer.head_dim * (key - recipe.base)
        total += mixer.heads * width * model.hidden * (out - recipe.base)
    return total


def _wider_ffn(model: Model, recipe: Recipe) -> float:
    """Bits of all matrices out of the FFNs beyond what they took in the base type."""
    own = [layer.ffn for layer in model.layers if layer.ffn and not layer.weights_shared]
    total = 0.0
    for index, ffn in enumerate(own):
        wider = recipe.down(index, len(own)) - recipe.base
        if isinstance(ffn, MoE):
            routed = float(ffn.experts * ffn.width) * (ffn.latent or model.hidden)
            total += wider * (routed + ffn.shared_width * model.hidden)
        else:
            total += wider * ffn.width * model.hidden
    return total
