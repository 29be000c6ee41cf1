"""Mixture-of-experts parts: how many experts, how wide, how many visited, and in which layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from analyzer.hf.common import layer_count
from analyzer.hf.fields import Fields
from analyzer.model import MoE

EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
TOP_K = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_k",
    "moe_topk",
    "moe_top_k",
    "top_k_experts",
    "num_selected_experts",
)
WIDTH = ("moe_intermediate_size", "expert_ffn_hidden_size")

SparseRule = Callable[[Fields], Sequence[bool]]


def experts(cfg: Fields, *, width: int, **overrides: Any) -> MoE:
    """The routed part that the usual keys describe, with experts of `width`."""
    count, top_k = cfg.size(*EXPERTS), cfg.size(*TOP_K)
    if top_k > count:
        raise cfg.conflict("num_experts_per_tok", top_k, "num_experts", count)
    return MoE(experts=count, top_k=top_k, width=width, **overrides)


def shared_count_width(cfg: Fields, width: int) -> int:
    """Width of the shared experts together, where the configuration gives their number."""
    return width * cfg.count("n_shared_experts", "num_shared_experts", default=0)


def all_sparse(cfg: Fields) -> Sequence[bool]:
    """Experts in every layer."""
    return (True,) * layer_count(cfg)


def after_dense(cfg: Fields) -> Sequence[bool]:
    """Dense layers first; `mlp_layer_types` and a list `moe_layer_freq` go before the count."""
    layers = layer_count(cfg)
    if cfg.has("mlp_layer_types"):
        table = {"dense": False, "sparse": True, "moe": True, "hash_moe": True}
        kinds = cfg.sequence("mlp_layer_types", length=layers)
        return [cfg.choice("mlp_layer_types", table, kind) for kind in kinds]
    if isinstance(cfg.raw.get("moe_layer_freq"), Sequence):
        return [bool(one) for one in cfg.sequence("moe_layer_freq", length=layers)]
    first = cfg.count("first_k_dense_replace", "num_dense_layers", default=0)
    every = cfg.size("moe_layer_freq", default=1)
    return [layer >= first and layer % every == 0 for layer in range(layers)]


def by_step(cfg: Fields) -> Sequence[bool]:
    """Each `decoder_sparse_step`-th layer, except those that `mlp_only_layers` names."""
    step = cfg.size("decoder_sparse_step", default=1)
    dense = set(cfg.sequence("mlp_only_layers")) if cfg.has("mlp_only_layers") else set()
    layers = range(layer_count(cfg))
    return [layer not in dense and (layer + 1) % step == 0 for layer in layers]


def by_interval(cfg: Fields) -> Sequence[bool]:
    """ERNIE: from a first to a last layer, at an interval."""
    layers = layer_count(cfg)
    first = cfg.count("moe_layer_start_index", default=1)
    last = cfg.raw.get("moe_layer_end_index", -1)
    end = layers - 1 if last in (None, -1) else cfg.count("moe_layer_end_index")
    every = cfg.size("moe_layer_interval", default=1)
    return [first <= layer <= end and (layer + 1) % every == 0 for layer in range(layers)]


def interleaved(cfg: Fields) -> Sequence[bool]:
    """Llama-4: the layers listed in `moe_layers`, else each `interleave_moe_layer_step`-th."""
    layers = range(layer_count(cfg))
    if cfg.has("moe_layers"):
        chosen = set(cfg.sequence("moe_layers"))
        return [layer in chosen for layer in layers]
    step = cfg.size("interleave_moe_layer_step", default=1)
    return [(layer + 1) % step == 0 for layer in layers]
