"""Which matrices transformers keeps input by input: those of its GPT-2, without the head."""

from __future__ import annotations

import pytest

from analyzer.hf.registry import from_config
from analyzer.phases import count_decode, lay
from analyzer.plan import Plan
from analyzer.workload import Workload

GPT2 = {
    "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_embd": 96, "n_layer": 2,
    "n_head": 6, "n_positions": 512, "vocab_size": 512,
}  # fmt: skip
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 96,
    "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 6, "vocab_size": 512,
}  # fmt: skip


def _turned(config: dict[str, object], fused: bool) -> dict[str, float]:
    plan = Plan(weights="bf16", engine="vllm" if fused else "transformers", fused=fused)
    steps = count_decode(
        lay(from_config(config), plan), Workload(batch=1, input_tokens=16, output_tokens=2)
    )
    table = steps[0].tables[0]
    found = zip(table.names, table.kinds, table.input_major, strict=True)
    return {name: float(turned.max()) for name, kind, turned in found if kind == "gemm"}


def test_gpt2_under_transformers_keeps_all_but_the_head_input_by_input() -> None:
    turned = _turned(GPT2, fused=False)
    assert turned.pop("head") == 0.0
    assert len(turned) >= 4
    assert set(turned.values()) == {1.0}


@pytest.mark.parametrize(("config", "fused"), [(GPT2, True), (LLAMA, False)])
def test_servers_and_other_models_keep_none(config: dict[str, object], fused: bool) -> None:
    assert set(_turned(config, fused).values()) == {0.0}
