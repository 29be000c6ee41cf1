"""What the report says of memory: the bars hold for what `predict` prints, and by source."""

from __future__ import annotations

from typing import Any

import pytest

from analyzer.counting.cache import cache_B
from analyzer.memory_parts import WORKSPACE_B
from analyzer.models_catalog import load
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.records import Provenance, Record, Scenario
from reports.validate.memory import _blind, memory_section

MIB = 2.0**20


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, Any]]]:
    section = memory_section()
    return {
        table.name: [
            dict(zip((column.title for column in table.columns), row, strict=True))
            for row in table.rows
        ]
        for table in section.tables
    }


def test_weights_and_cache_are_exact(tables: dict[str, list[dict[str, Any]]]) -> None:
    assert {row["part"] for row in tables["parts"]} == {"weights", "kv cache"}
    assert all(row["MAPE"] < 0.005 for row in tables["parts"])


def test_peaks_keep_the_bar_together_and_by_engine(
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    """Sources that do not say how they read memory are shown and not counted; the eight rows of
    Mixtral on two devices are farther off than the bar, and the report says so."""
    whole = tables["peaks"][-1]
    assert whole["rows"] > 500
    assert whole["MAPE"] < 0.05
    far = {row["engine"] for row in tables["peaks"][:-1] if row["MAPE"] > 0.05}
    assert far == {"FasterTransformer v5.x", "AutoAWQ (fused modules) 0.2.x"}


def test_rows_in_which_no_rule_was_seen_are_no_farther_off(
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    blind, whole = tables["blind"][-1], tables["peaks"][-1]
    assert 200 < blind["rows"] < whole["rows"]
    assert blind["MAPE"] <= whole["MAPE"]


@pytest.mark.parametrize(
    ("source", "model", "weights", "blind"),
    [
        ("qwen_speed", "Qwen/Qwen2-7B-Instruct", "bf16", False),
        ("qwen_speed", "Qwen/Qwen2.5-7B-Instruct", "bf16", False),
        ("qwen_speed", "Qwen/Qwen2.5-14B-Instruct", "bf16", True),
        ("qwen_speed", "Qwen/Qwen2.5-14B-Instruct", "int4-awq", False),
        ("autoawq", "tiiuae/falcon-7b", "int4-awq-g64", True),
        ("llama_cpp_xiongjiedai", "meta-llama/Llama-2-13b-hf", "q4_0", True),
        ("llama_cpp_xiongjiedai", "huggyllama/llama-7b", "q4_0", False),
    ],
)
def test_what_a_rule_was_seen_in_is_no_check_of_it(
    source: str, model: str, weights: str, blind: bool
) -> None:
    scenario = Scenario(model=model, weight_precision=weights)
    record = Record(
        kind="memory", metrics={}, provenance=Provenance(source=source), scenario=scenario
    )
    assert _blind(record) is blind


def test_what_a_prompt_leaves_allocated_is_told_apart() -> None:
    """Llama-2-7B after 4,097 tokens on an RTX 3090: 2,306.75 MiB, of which the cache is 2,048.5;
    the logits that the caller holds and the matrix library's workspace are the rest."""
    model = load("llama-2-7b")
    kept = cache_B(model, lay(model, Plan(weights="fp16", activations="fp16")).layout, 4097.0)
    logits_B = 4097 * model.vocab * 2.0
    assert float(kept.kv_B) == 2048.5 * MIB
    grown_B = float(kept.kv_B) + logits_B + WORKSPACE_B
    assert grown_B / MIB == pytest.approx(2306.75, rel=2e-4)
    assert float(kept.kv_B) / MIB == pytest.approx(2306.75 * (1 - 0.112), rel=1e-3)
