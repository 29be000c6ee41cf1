"""FLOPs and cache bytes of tiny models of every family are those that transformers really spends.

Allowed differences, each worked out in `explained`: transformers computes masked-out pairs, pads
chunks of recurrences, and expands latents of all cached tokens in decode (`absorb_mla=False`).
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import pytest

from analyzer.counting import Layout, Step, count, steps
from analyzer.counting.cache import cache_B
from analyzer.hf.registry import from_config
from analyzer.model import Model

from . import families, oracle
from .explained import core_flops, idle_expert_flops, masked_core_flops, matrix_flops

BATCH, PROMPT = 2, 67
LAYOUT = Layout(absorb_mla=False, state_B=2.0)
STATES_IN_MODEL_FORMAT = {"minimax"}
"""Recurrent states that transformers keeps in the weights' format; it keeps all others in fp32."""
COMPUTES_ALL_EXPERTS = {"llama4_text"}
LOOKS_AT_VALUES = {"dbrx"}


class Case(NamedTuple):
    model: Model
    prefill: oracle.Truth
    decode: oracle.Truth


@cache
def case(name: str) -> Case:
    config = families.tiny(name)
    model = from_config(config.to_dict(), name)
    built = oracle.build(config, "cpu" if name in LOOKS_AT_VALUES else "meta")
    prefill = oracle.run(built, BATCH, PROMPT)
    return Case(model, prefill, oracle.run(built, BATCH, 1, prefill.cache))


def explained(name: str, step: Step, new: int, past: int) -> float:
    """What transformers should spend, by our counts and the differences that we know of."""
    model = case(name).model
    table = count(model, step, LAYOUT)
    total = matrix_flops(table) + masked_core_flops(model, BATCH, new, past)
    if name in COMPUTES_ALL_EXPERTS:
        total += idle_expert_flops(model, table)
    return total


@pytest.mark.parametrize("name", families.TINY)
def test_prefill_flops(name: str) -> None:
    expected = explained(name, steps.prefill(BATCH, PROMPT), PROMPT, 0)
    assert expected == pytest.approx(case(name).prefill.flops, rel=1e-12)


@pytest.mark.parametrize("name", families.TINY)
def test_decode_flops(name: str) -> None:
    expected = explained(name, steps.decode(BATCH, PROMPT), 1, PROMPT)
    assert expected == pytest.approx(case(name).decode.flops, rel=1e-12)


ONLY_ATTENTION = ["llama", "mistral", "gemma2", "gemma4_text", "gpt_oss", "mixtral", "qwen2_moe"]
ONLY_ATTENTION += ["deepseek_v2", "deepseek_v3", "falcon", "gptj", "bloom", "opt"]


@pytest.mark.parametrize("name", ONLY_ATTENTION)
def test_decode_needs_no_explanation(name: str) -> None:
    """One new token sees every key: nothing is masked, so the whole count is torch's count."""
    model, _, truth = case(name)
    table = count(model, steps.decode(BATCH, PROMPT), LAYOUT)
    assert matrix_flops(table) + core_flops(table) == pytest.approx(truth.flops, rel=1e-12)


@pytest.mark.parametrize("name", families.TINY)
def test_cache_bytes(name: str) -> None:
    """Keys, values, latents, states and convolution windows, to the byte."""
    model, truth, _ = case(name)
    layout = LAYOUT if name in STATES_IN_MODEL_FORMAT else LAYOUT._replace(state_B=4.0)
    assert BATCH * cache_B(model, layout, float(PROMPT)).total_B == truth.cache_B


def test_convolutions() -> None:
    """Causal filters; transformers computes and drops taps - 1 padded positions more."""
    model, truth, _ = case("mamba2")
    table = count(model, steps.prefill(BATCH, PROMPT), LAYOUT)
    row = table.names.index("mamba2.conv")
    ours = float(table.flops[row] * table.repeat[row])
    assert ours * (PROMPT + 3) / PROMPT == pytest.approx(truth.convolution_flops, rel=1e-12)
