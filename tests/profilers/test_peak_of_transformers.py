"""The peak of reading a prompt under transformers, held against every tensor that torch makes."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from analyzer.hf import from_config  # noqa: E402
from analyzer.memory import WORKSPACE_B, memory  # noqa: E402
from analyzer.phases import lay  # noqa: E402
from analyzer.plan import Plan  # noqa: E402
from analyzer.workload import Workload  # noqa: E402
from profilers.ledger import Ledger  # noqa: E402

SIZES = {
    "hidden_size": 256,
    "intermediate_size": 704,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 512,
    "max_position_embeddings": 1024,
    "tie_word_embeddings": False,
}
FAMILIES = ("llama", "qwen2", "mistral", "qwen3")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("batch", "prompt"), [(1, 512), (2, 200)])
def test_reading_peaks_where_the_rule_says(family: str, batch: int, prompt: int) -> None:
    sizes = {**SIZES, **({"head_dim": 64} if family == "qwen3" else {})}
    config = transformers.AutoConfig.for_model(family, **sizes)
    config._attn_implementation = "sdpa"
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
    tokens = torch.zeros(batch, prompt, dtype=torch.long)
    with torch.inference_mode():
        model(input_ids=tokens, use_cache=True, logits_to_keep=1)  # what is made once is not ours
        with Ledger([*model.parameters(), *model.buffers(), tokens]) as ledger:
            model(input_ids=tokens, use_cache=True, logits_to_keep=1)
    named = from_config({"model_type": family, **sizes}, family)
    one = lay(named, Plan(weights="bf16", engine="transformers", fused=False))
    load = Workload(batch=batch, input_tokens=prompt, output_tokens=1)
    held = memory(one, load)
    expected = float(held.allocated_B) - float(held.weights_B) - WORKSPACE_B
    assert ledger.peak_B() == pytest.approx(expected, rel=1e-3)
