"""Multi-head latent attention: DeepSeek-V2, V3 and V3.2, Kimi-K2, GLM-5 and their kin."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.hf import routing
from analyzer.hf.common import (
    decoder,
    gated_width,
    head_count,
    hidden_size,
    layer_count,
    with_prediction,
)
from analyzer.hf.fields import Fields
from analyzer.model import MLA, DenseFFN, Indexer, Layer, Model, MoE

CORRECTED = ("deepseek_v3", "deepseek_v32", "glm_moe_dsa", "glm4_moe_lite", "kimi_k2", "mistral4")
"""Families whose routers choose with a correction bias (kept as a buffer)."""


def latent_attention(cfg: Fields, indexer: Indexer | None = None, **overrides: bool) -> MLA:
    """The latent attention that the usual keys describe."""
    return MLA(
        heads=head_count(cfg),
        q_lora_rank=cfg.optional_size("q_lora_rank"),
        kv_lora_rank=cfg.size("kv_lora_rank"),
        nope_dim=cfg.size("qk_nope_head_dim"),
        rope_dim=cfg.size("qk_rope_head_dim"),
        v_dim=cfg.size("v_head_dim"),
        qkv_bias=cfg.flag("attention_bias", default=False),
        indexer=indexer,
        **overrides,
    )


def read(cfg: Fields) -> Model:
    """Latent attention with mixture-of-experts layers after the first dense ones."""
    return _model(cfg, [None] * layer_count(cfg))


def read_sparse(cfg: Fields) -> Model:
    """The same with trained sparse attention (DeepSeek-V3.2, GLM-5)."""
    own = Indexer(
        heads=cfg.size("index_n_heads"),
        head_dim=cfg.size("index_head_dim"),
        top_k=cfg.size("index_topk"),
    )
    taken_over = Indexer(heads=own.heads, head_dim=own.head_dim, top_k=own.top_k, reused=True)
    table = {"full": own, "shared": taken_over}
    kinds = [cfg.choice("indexer_types", table, kind) for kind in _indexer_kinds(cfg)]
    return _model(cfg, kinds)


def _indexer_kinds(cfg: Fields) -> Sequence[str]:
    """Which layers choose keys themselves ("full") and which take over ("shared")."""
    layers = layer_count(cfg)
    if cfg.has("indexer_types"):
        return cfg.sequence("indexer_types", length=layers)
    if cfg.has("index_topk_pattern"):
        names = {"F": "full", "S": "shared"}
        return [names[letter] for letter in cfg.text("index_topk_pattern")]
    every = cfg.size("index_topk_freq", default=1)
    offset = cfg.count("index_skip_topk_offset", default=2)
    return ["shared" if max(layer - offset + 1, 0) % every else "full" for layer in range(layers)]


def _model(cfg: Fields, indexers: Sequence[Indexer | None]) -> Model:
    hidden = hidden_size(cfg)
    dense = DenseFFN(width=gated_width(cfg)) if not all(routing.after_dense(cfg)) else None
    sparse = expert_part(cfg) if cfg.has(*routing.EXPERTS) else None
    layers = [
        Layer(
            mixer=latent_attention(cfg, indexer),
            ffn=sparse if routed and sparse is not None else dense,
            norm_params=2 * hidden,
        )
        for indexer, routed in zip(indexers, routing.after_dense(cfg), strict=True)
    ]
    return with_prediction(cfg, decoder(cfg, layers))


def expert_part(cfg: Fields) -> MoE:
    """Routed and shared experts."""
    width = cfg.size(*routing.WIDTH)
    return routing.experts(
        cfg,
        width=width,
        shared_width=routing.shared_count_width(cfg, width),
        router_correction=cfg.text("model_type") in CORRECTED,
    )
