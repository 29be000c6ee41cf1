"""Tiny configurations, one or more of each architecture family, and the full ones of issue lists.

Sizes are small, uneven and larger than one window, one block and one chunk where there is such a
thing, so that a wrong factor can't hide.
"""

from __future__ import annotations

from typing import Any

from transformers import CONFIG_MAPPING

_BASE = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "vocab_size": 211,
    "max_position_embeddings": 512,
    "tie_word_embeddings": False,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_EXPERTS = {"num_experts": 10, "num_experts_per_tok": 3, "moe_intermediate_size": 56}
_MLA = {
    "q_lora_rank": 40,
    "kv_lora_rank": 24,
    "qk_nope_head_dim": 20,
    "qk_rope_head_dim": 8,
    "v_head_dim": 28,
    "num_key_value_heads": 6,
    "head_dim": 8,
    "n_routed_experts": 10,
    "num_experts_per_tok": 3,
    "moe_intermediate_size": 56,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    "n_group": 1,
    "topk_group": 1,
}
_INDEX = {"index_topk": 16, "index_n_heads": 3, "index_head_dim": 16}
_DELTA = {
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 20,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}

TINY: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 24},
    "qwen2": {},
    "qwen3": {},
    "phi3": {},
    "olmo2": {},
    "cohere": {},
    "glm4": {},
    "gemma2": {"sliding_window": 24, "query_pre_attn_scalar": 32},
    "gemma3_text": {"sliding_window": 24, "sliding_window_pattern": 2},
    "mixtral": {"num_local_experts": 10, "num_experts_per_tok": 3},
    "qwen3_moe": _EXPERTS,
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 48},
    "gpt_oss": {"num_local_experts": 10, "num_experts_per_tok": 3, "sliding_window": 24},
    "glm4_moe": {**_EXPERTS, "n_routed_experts": 10, "n_shared_experts": 1, "n_group": 1},
    "deepseek_v3": _MLA,
    "deepseek_v32": {**_MLA, **_INDEX},
    "qwen3_next": {**_EXPERTS, **_DELTA, "shared_expert_intermediate_size": 48},
    "mamba": {"state_size": 12, "time_step_rank": 7, "intermediate_size": 192},
    "mamba2": {
        "num_heads": 6,
        "head_dim": 32,
        "state_size": 12,
        "n_groups": 2,
        "chunk_size": 256,
        "expand": 2,
    },
    "jamba": {
        "num_experts": 10,
        "num_experts_per_tok": 3,
        "attn_layer_period": 4,
        "attn_layer_offset": 1,
        "expert_layer_period": 2,
        "expert_layer_offset": 1,
        "mamba_d_state": 12,
        "mamba_dt_rank": 7,
        "use_mamba_kernels": False,
    },
    "lfm2": {"conv_L_cache": 3, "full_attn_idxs": [2], "block_auto_adjust_ff_dim": False},
    "falcon": {"alibi": False, "new_decoder_architecture": False, "multi_query": True},
    "opt": {"ffn_dim": 160, "word_embed_proj_dim": 96},
    "gpt2": {"n_embd": 96, "n_layer": 4, "n_head": 6, "n_positions": 512},
    "gptj": {"n_embd": 96, "n_layer": 4, "n_head": 6, "rotary_dim": 8, "n_positions": 512},
    "gpt_neox": {},
    "bloom": {"n_layer": 4, "n_head": 6},
    "phi": {},
    "mpt": {"d_model": 96, "n_layers": 4, "n_heads": 6},
    "gpt_bigcode": {"n_embd": 96, "n_layer": 4, "n_head": 6, "n_positions": 512},
    "stablelm": {},
    "nemotron": {},
    "starcoder2": {"sliding_window": 24},
    "cohere2": {"sliding_window": 24},
    "exaone4": {"sliding_window": 24},
    "olmoe": {**_EXPERTS, "num_experts": 10},
    "phimoe": {"num_local_experts": 10, "num_experts_per_tok": 2},
    "minimax_m2": {"num_local_experts": 10, "num_experts_per_tok": 3, "rotary_dim": 16},
    "dots1": {**_MLA},
    "ernie4_5_moe": {"moe_num_experts": 10, "moe_k": 3, "moe_intermediate_size": 56},
    "granitemoeshared": {
        "num_local_experts": 10,
        "num_experts_per_tok": 3,
        "shared_intermediate_size": 48,
    },
    "glm4_moe_lite": _MLA,
    "glm_moe_dsa": {**_MLA, **_INDEX},
    "qwen3_5_text": _DELTA,
    "qwen3_5_moe_text": {**_EXPERTS, **_DELTA, "shared_expert_intermediate_size": 48},
    "minimax": {"num_local_experts": 10, "num_experts_per_tok": 3, "block_size": 256},
    "falcon_mamba": {"state_size": 12, "time_step_rank": 7, "intermediate_size": 192},
    "bamba": {
        "mamba_d_state": 12,
        "mamba_n_heads": 6,
        "mamba_d_head": 32,
        "mamba_n_groups": 2,
        "attn_layer_indices": [1],
    },
    "falcon_h1": {
        "mamba_d_state": 12,
        "mamba_n_heads": 6,
        "mamba_d_head": 32,
        "mamba_n_groups": 2,
        "mamba_d_ssm": 192,
    },
    "nemotron_h": {
        "layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
        "ssm_state_size": 12,
        "mamba_num_heads": 6,
        "mamba_head_dim": 32,
        "n_groups": 2,
        "chunk_size": 256,
        "n_routed_experts": 10,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 56,
        "moe_shared_expert_intermediate_size": 48,
        "moe_latent_size": 40,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "mamba_d_state": 12,
        "n_mamba_heads": 6,
        "num_key_value_heads": 6,
        "use_shared_attention_adapter": True,
        "adapter_rank": 8,
    },
    "granitemoehybrid": {
        "num_local_experts": 10,
        "num_experts_per_tok": 3,
        "shared_intermediate_size": 48,
        "mamba_n_heads": 6,
        "mamba_d_state": 12,
        "mamba_n_groups": 2,
        "mamba_d_head": 32,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "kimi_linear": {
        **_MLA,
        "q_lora_rank": None,
        "layer_types": ["linear_attention", "full_attention"] * 2,
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "num_experts": 10,
        "num_experts_per_token": 3,
        "num_shared_experts": 1,
        "linear_head_dim": 20,
        "linear_num_heads": 4,
    },
    "lfm2_moe": {
        **_EXPERTS,
        "conv_L_cache": 3,
        "num_dense_layers": 1,
        "layer_types": ["conv", "full_attention", "conv", "full_attention"],
    },
    "llama4_text": {
        "num_local_experts": 10,
        "num_experts_per_tok": 1,
        "intermediate_size_mlp": 120,
        "attention_chunk_size": 24,
    },
    "dbrx": {
        "d_model": 96,
        "n_layers": 4,
        "n_heads": 6,
        "max_seq_len": 512,
        "attn_config": {"kv_n_heads": 2, "rope_theta": 10000.0, "clip_qkv": 8},
        "ffn_config": {
            "hidden_size": 96,
            "ffn_hidden_size": 56,
            "moe_num_experts": 10,
            "moe_top_k": 3,
        },
    },
    "gemma3n_text": {
        "intermediate_size": [160] * 4,
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "sliding_window": 24,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 211,
        "laurel_rank": 8,
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "gemma4_text": {"sliding_window": 24, "hidden_size_per_layer_input": 16},
    "deepseek_v2": _MLA,
    "deepseek_v4": {
        **_EXPERTS,
        "n_routed_experts": 10,
        "head_dim": 32,
        "num_key_value_heads": 1,
        "q_lora_rank": 40,
        "o_groups": 2,
        "o_lora_rank": 20,
        "sliding_window": 24,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 16},
        "layer_types": ["heavily_compressed_attention", "compressed_sparse_attention"] * 2,
        "mlp_layer_types": ["hash_moe", "moe", "moe", "moe"],
        "index_n_heads": 3,
        "index_head_dim": 16,
        "index_topk": 8,
        "qk_rope_head_dim": 8,
        "partial_rotary_factor": 0.25,
    },
    "minimax_m3_vl_text": {
        "num_local_experts": 10,
        "num_experts_per_tok": 3,
        "dense_intermediate_size": 120,
        "shared_intermediate_size": 48,
        "rotary_dim": 16,
        "index_n_heads": 2,
        "index_head_dim": 32,
        "index_block_size": 8,
        "index_topk_blocks": 4,
        "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"],
        "layer_types": ["full_attention", "minimax_m3_sparse"] * 2,
    },
}

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


def tiny(name: str) -> Any:
    """A small configuration of the family `name`."""
    kind = CONFIG_MAPPING[name]
    known = set(vars(kind())) | set(getattr(kind, "attribute_map", {}))
    chosen = {key: value for key, value in _BASE.items() if key in known}
    return kind(**{**chosen, **TINY[name]})
