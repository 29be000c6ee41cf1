"""Independent truth about FLOPs and cache bytes: transformers itself, on the meta device.

What transformers does differs from what a server does in known ways; `Truth` reports FLOPs by kind
of operator so that each test can say which difference it allows for.
"""

from __future__ import annotations

import contextlib
import inspect
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, masking_utils

transformers.logging.set_verbosity_error()


@dataclass(frozen=True)
class Truth:
    """One forward pass: FLOPs that torch counted, and the cache that it left behind."""

    flops: int
    convolution_flops: int
    cache_B: int
    cache: Any


@contextlib.contextmanager
def _without_item_calls() -> Iterator[None]:
    """Masks look for packed sequences by value, which meta tensors do not have."""
    original = masking_utils.find_packed_sequence_indices
    masking_utils.find_packed_sequence_indices = lambda position_ids: None
    try:
        yield
    finally:
        masking_utils.find_packed_sequence_indices = original


def build(config: Any, device: str = "meta") -> Any:
    """The model with experts and attention as operators that torch counts.

    The meta device computes nothing; a model that looks at values needs "cpu".
    """
    settings = {"attn_implementation": "eager"}
    if _has_experts(config):
        settings["experts_implementation"] = "batched_mm"
    with torch.device(device), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch, by transformers
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, **settings)
    model.config.pad_token_id = None  # else some look for padding by value
    return model.eval().requires_grad_(False)


def _has_experts(config: Any) -> bool:
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    return any(getattr(config, name, None) for name in names)


def run(model: Any, batch: int, new: int, cache: Any = None) -> Truth:
    """`new` tokens of `batch` sequences on top of `cache`; logits of the last position only."""
    ids = torch.zeros((batch, new), dtype=torch.long, device=model.device)
    accepted = inspect.signature(model.forward).parameters
    name = "cache_params" if "cache_params" in accepted else "past_key_values"
    counter = FlopCounterMode(display=False)
    with _without_item_calls(), torch.no_grad(), counter:
        output = model(ids, **{name: cache}, use_cache=True, logits_to_keep=1)
    cache = output[name]
    by_operator = counter.get_flop_counts()["Global"]
    convolution = sum(n for op, n in by_operator.items() if "convolution" in str(op))
    total = counter.get_total_flops()
    return Truth(total - convolution, convolution, tensor_bytes(cache), cache)


def tensor_bytes(cache: Any) -> int:
    """Bytes of every floating-point tensor that the cache's layers hold, each storage once."""
    seen: dict[int, int] = {}
    for holder in (cache, *getattr(cache, "layers", ())):
        _collect(vars(holder), seen)
    return sum(seen.values())


def _collect(values: Any, seen: dict[int, int]) -> None:
    if isinstance(values, torch.Tensor):
        if values.is_floating_point():
            seen[id(values)] = values.numel() * values.element_size()
    elif isinstance(values, dict):
        for value in values.values():
            _collect(value, seen)
    elif isinstance(values, (list, tuple)):
        for value in values:
            _collect(value, seen)
