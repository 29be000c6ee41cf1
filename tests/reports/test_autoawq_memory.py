"""Peaks of AutoAWQ's own benchmark, term by term, on a model whose sizes are known."""

from __future__ import annotations

import pytest

from analyzer.memory import WORKSPACE_B, memory
from analyzer.records import Scenario
from analyzer.resolve import Question, question
from reports.validate.autoawq_memory import WARM_UP_B, early_peak_B, peak_B

LAYERS, HIDDEN, HEADS, VOCAB = 32, 4096, 32, 32000
TOKEN_B = 2.0 * 2.0 * LAYERS * HIDDEN
"""Keys and values of one token of Llama-2-7B in fp16."""


def asked(prompt: float, answer: float, model: str = "meta-llama/Llama-2-7b-hf") -> Question:
    return question(
        Scenario(
            hardware="RTX4090",
            gpus=1,
            tp=1,
            pp=1,
            model=model,
            engine="AutoAWQ (fused modules)",
            weight_precision="int4-awq-g128",
            kv_precision="fp16",
            concurrency=2.0,
            input_tokens=prompt,
            output_tokens=answer,
        )
    )


def beside_weights(one: Question, peak: float) -> float:
    return peak - float(memory(one.laid, one.workload).weights_B)


def test_short_prompts_peak_in_the_warm_up() -> None:
    one = asked(8.0, 32.0)
    expected = 2 * 32 * TOKEN_B + WARM_UP_B + WORKSPACE_B
    assert beside_weights(one, peak_B(one)) == pytest.approx(expected)


def test_early_releases_hold_projections_twice() -> None:
    """Three square matrices of each layer, at 4.25 or so bits per value."""
    one = asked(8.0, 32.0)
    copies = 3 * LAYERS * HIDDEN**2 * float(one.laid.layout.weight_B)
    assert beside_weights(one, early_peak_B(one)) == pytest.approx(2 * 32 * TOKEN_B + copies)


def test_checkpoints_that_come_joined_need_no_copies() -> None:
    one = asked(8.0, 32.0, "mosaicml/mpt-7b-8k-chat")
    assert early_peak_B(one) == peak_B(one)


def test_long_prompts_peak_in_the_softmax() -> None:
    """Scores of all heads at ten bytes each; the cache has room for the answer only."""
    one = asked(2048.0, 64.0)
    held = memory(one.laid, one.workload)
    scores = 10.0 * 2 * HEADS * 2048**2
    expected = 2 * 64 * TOKEN_B + scores + float(held.activations_B) + WORKSPACE_B
    assert beside_weights(one, peak_B(one)) == pytest.approx(expected)


def test_middling_prompts_of_wide_vocabularies_peak_in_the_logits() -> None:
    """Below 600 tokens six bytes per logit outweigh ten per score."""
    one = asked(512.0, 64.0)
    held = memory(one.laid, one.workload)
    expected = 2 * 64 * TOKEN_B + 6.0 * 2 * 512 * VOCAB + float(held.activations_B) + WORKSPACE_B
    assert beside_weights(one, peak_B(one)) == pytest.approx(expected)
