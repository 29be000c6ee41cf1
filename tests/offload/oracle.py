"""Tiny random models of every family, and what transformers itself generates with them."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.cache_utils import DynamicCache

from analyzer.offload_policy import OffloadPolicy
from profilers.offload.engine import BlockRun, OffloadEngine
from profilers.offload.quant import round_trip

VOCAB, PROMPT, NEW = 128, 7, 6
_COMMON = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": None,
    "pad_token_id": 0,
}
_GQA = _COMMON | {"num_key_value_heads": 2, "intermediate_size": 96, "initializer_range": 0.5}
_LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama2": ("Llama", _GQA | {"num_key_value_heads": 4}),
    "llama3": ("Llama", _GQA | {"rope_parameters": _LLAMA3}),
    "mistral": ("Mistral", _GQA | {"sliding_window": 5, "head_dim": 32}),
    "qwen2": ("Qwen2", _GQA | {"tie_word_embeddings": True}),
    "qwen3": ("Qwen3", _GQA | {"head_dim": 32}),
    "opt": ("OPT", _COMMON | {"ffn_dim": 96, "init_std": 0.3, "word_embed_proj_dim": 64}),
    "mixtral": ("Mixtral", _GQA | {"num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen3_moe": (
        "Qwen3Moe",
        _GQA
        | {
            "head_dim": 16,
            "moe_intermediate_size": 48,
            "num_experts": 4,
            "num_experts_per_tok": 2,
            "norm_topk_prob": True,
        },
    ),
}


def make_model(family: str, folder: Path) -> torch.nn.Module:
    """A tiny random model of the family, saved as a checkpoint in `folder`."""
    kind, options = FAMILIES[family]
    torch.manual_seed(sum(map(ord, family)))
    config = getattr(transformers, f"{kind}Config")(**options)
    model = getattr(transformers, f"{kind}ForCausalLM")(config).eval()
    for name, parameter in model.named_parameters():
        if "bias" in name or ("norm" in name and parameter.dim() == 1):
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder, max_shard_size="60KB")
    return model


def prompts(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Random prompts, some padded on the left."""
    generator = torch.Generator().manual_seed(rows)
    ids = torch.randint(3, VOCAB, (rows, PROMPT), generator=generator)
    mask = torch.ones_like(ids)
    for row in range(1, rows, 2):
        mask[row, : row % (PROMPT - 1)] = 0
    return ids, mask


class RoundTripCache(DynamicCache):
    """A cache whose every key and value has been through the group-wise code."""

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def update(self, key_states: Any, value_states: Any, *rest: Any, **named: Any) -> Any:
        keys, values = (round_trip(part, self.bits) for part in (key_states, value_states))
        return super().update(keys, values, *rest, **named)


def compress_weights(model: torch.nn.Module, bits: int, tied: bool) -> None:
    """Put every linear weight through the group-wise code, as the engine's homes do."""
    names = ("proj", "fc1", "fc2", "out_proj", "w1", "w2", "w3")
    for name, module in model.named_modules():
        linear = isinstance(module, torch.nn.Linear)
        if linear and (name.endswith(names) or (name.endswith("lm_head") and not tied)):
            module.weight.data = round_trip(module.weight.data, bits)
    for name, parameter in model.named_parameters():
        if "experts" in name and parameter.dim() == 3:  # transformers stacks the experts
            parameter.data = round_trip(parameter.data, bits)


def reference(folder: Path, rows: int, weight_bits: int = 16, kv_bits: int = 16) -> torch.Tensor:
    """Tokens that transformers generates greedily in fp32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    if weight_bits < 16:
        compress_weights(model, weight_bits, bool(model.config.tie_word_embeddings))
    ids, mask = prompts(rows)
    options: dict[str, Any] = {}
    if kv_bits < 16:
        options["past_key_values"] = RoundTripCache(kv_bits)
    out = model.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, **options)
    return out[:, PROMPT:]


def moved(run: BlockRun) -> Counter[tuple[str, str]]:
    """Bytes that the jobs of a run found they had moved, by stream."""
    total: Counter[tuple[str, str]] = Counter()
    for ticket in run.tickets:
        total[ticket.stage, ticket.link] += ticket.moved_B
    return +total


def check(folder: Path, policy: OffloadPolicy, expected: torch.Tensor) -> None:
    """The policy must give exactly the expected tokens and move exactly the counted bytes."""
    ids, mask = prompts(expected.shape[0])
    with OffloadEngine(folder, policy, dtype="float32", offload_dir=folder / "spill") as engine:
        made = engine.generate(ids, NEW, attention_mask=mask)
    assert torch.equal(made.tokens, expected), policy
    for run in made.blocks:
        assert moved(run) == run.counted, policy
    assert not (folder / "spill").exists()


WEIGHTS = ((100, 0), (0, 100), (0, 0), (50, 50), (20, 80), (50, 0), (30, 30))
KV = ((100, 0), (0, 100), (0, 0), (50, 50), (50, 0), (0, 50), (34, 33))
ACTIVATIONS = ((100, 0), (0, 100), (0, 0), (50, 50), (40, 30))
BATCHES = ((6, 1), (3, 2), (2, 3), (1, 6))


def every_policy() -> list[OffloadPolicy]:
    """784 policies: placements x batches x CPU attention x overlap, activations going round."""
    grid = itertools.product(WEIGHTS, KV, BATCHES, (False, True), (False, True))
    return [
        OffloadPolicy.from_percent(
            [*weights, *kv, *ACTIVATIONS[n % len(ACTIVATIONS)]],
            gpu_batch=batch[0],
            num_gpu_batches=batch[1],
            cpu_attention=cpu_attention,
            overlap=overlap,
        )
        for n, (weights, kv, batch, cpu_attention, overlap) in enumerate(grid)
    ]
