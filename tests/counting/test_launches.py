"""Kernels of an eager engine: as many per layer as torch really dispatches in transformers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

from analyzer.hf.registry import from_config
from analyzer.phases import count_decode, lay
from analyzer.plan import Plan
from analyzer.workload import Workload

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

VIEWS = frozenset({
    "view", "_unsafe_view", "transpose", "t", "permute", "expand", "slice", "unsqueeze", "squeeze",
    "select", "detach", "alias", "as_strided", "split", "reshape", "split_with_sizes", "dropout",
})  # fmt: skip
"""What moves no data; dropout does nothing outside of training."""
SIZES = {
    "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 256, "max_position_embeddings": 512,
}  # fmt: skip
NO_GROUPS = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}

OLD = {"n_embd": 64, "n_inner": 256, "n_head": 4, "vocab_size": 256, "n_positions": 512}


class Kernels(torch.utils._python_dispatch.TorchDispatchMode):  # type: ignore[misc]
    """Counts operators that move data."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        if name not in VIEWS:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def dispatched(kind: str, sizes: dict[str, int], layers: int) -> int:
    """Kernels of one decode step."""
    config = transformers.AutoConfig.for_model(kind, **sizes, num_hidden_layers=layers)
    model = transformers.AutoModelForCausalLM.from_config(
        config, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()
    with torch.inference_mode():
        filled = model(input_ids=torch.ones(1, 16, dtype=torch.long), use_cache=True)
        with Kernels() as counted:
            model(
                input_ids=torch.ones(1, 1, dtype=torch.long),
                past_key_values=filled.past_key_values,
                use_cache=True,
            )
    return sum(counted.seen.values())


def launched(kind: str, sizes: dict[str, int], layers: int) -> float:
    """Kernels of one decode step as they are counted here."""
    classes = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM",
               "qwen3": "Qwen3ForCausalLM", "gpt_neox": "GPTNeoXForCausalLM",
               "mistral": "MistralForCausalLM", "gpt2": "GPT2LMHeadModel"}  # fmt: skip
    config = {
        "model_type": kind,
        "architectures": [classes[kind]],
        "num_hidden_layers": layers,
        **sizes,
    }
    plan = Plan(weights="bf16", engine="transformers", fused=False)
    load = Workload(batch=1, input_tokens=16, output_tokens=2)
    steps = count_decode(lay(from_config(config), plan), load)
    return float(np.max(steps[0].tables[0].total("launches")))


@pytest.mark.parametrize(
    ("kind", "sizes", "tolerance"),
    [
        ("llama", SIZES, 0.0),
        ("qwen2", SIZES, 0.0),
        ("mistral", SIZES, 0.0),
        ("qwen3", {**SIZES, "head_dim": 16}, 0.0),
        ("gpt_neox", NO_GROUPS, 0.15),  # joins what it rotates with what it does not
        ("gpt2", OLD, 0.1),
    ],
)
def test_a_layer_launches_what_torch_dispatches(
    kind: str, sizes: dict[str, int], tolerance: float
) -> None:
    real = dispatched(kind, sizes, 3) - dispatched(kind, sizes, 2)
    counted = launched(kind, sizes, 3) - launched(kind, sizes, 2)
    assert counted == pytest.approx(real, rel=tolerance)
