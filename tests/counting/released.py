"""Released models at their published sizes."""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING

FULL: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama-3-70B": (
        "llama",
        {
            "hidden_size": 8192,
            "intermediate_size": 28672,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "vocab_size": 128256,
        },
    ),
    "Mixtral-8x7B": ("mixtral", {}),
    "DeepSeek-V3": ("deepseek_v3", {}),
    "Qwen3-235B-A22B": (
        "qwen3_moe",
        {
            "hidden_size": 4096,
            "intermediate_size": 12288,
            "moe_intermediate_size": 1536,
            "num_hidden_layers": 94,
            "num_attention_heads": 64,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "vocab_size": 151936,
        },
    ),
    "Qwen3-30B-A3B": (
        "qwen3_moe",
        {
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "moe_intermediate_size": 768,
            "num_hidden_layers": 48,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "vocab_size": 151936,
        },
    ),
    "Qwen3-Next-80B-A3B": ("qwen3_next", {}),
    "Mamba2-2.7B": (
        "mamba2",
        {
            "hidden_size": 2560,
            "num_hidden_layers": 64,
            "num_heads": 80,
            "head_dim": 64,
            "state_size": 128,
            "n_groups": 1,
            "vocab_size": 50288,
            "tie_word_embeddings": True,
        },
    ),
    "Jamba-v0.1": ("jamba", {"use_mamba_kernels": False}),
    "gpt-oss-120b": ("gpt_oss", {}),
    "gpt-oss-20b": ("gpt_oss", {"num_hidden_layers": 24, "num_local_experts": 32}),
    "Gemma3-27B": (
        "gemma3_text",
        {
            "hidden_size": 5376,
            "intermediate_size": 21504,
            "num_hidden_layers": 62,
            "num_attention_heads": 32,
            "num_key_value_heads": 16,
            "head_dim": 128,
            "sliding_window": 1024,
            "vocab_size": 262208,
        },
    ),
}
"""Published sizes of models that people run, where they differ from the class's defaults."""


def full(name: str) -> Any:
    """The configuration of a released model."""
    kind, sizes = FULL[name]
    return CONFIG_MAPPING[kind](**sizes)
