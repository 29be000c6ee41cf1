"""MiniMax-M3: grouped attention that reads blocks of keys which an indexer chooses."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.hf import routing
from analyzer.hf.common import attention, decoder, hidden_size, layer_count, with_prediction
from analyzer.hf.fields import Fields
from analyzer.model import DenseFFN, Indexer, Layer, Model


def read(cfg: Fields) -> Model:
    """A MiniMax-M3 text model."""
    full = attention(cfg, qk_norm="head")
    sparse = attention(cfg, qk_norm="head", indexer=_indexer(cfg))
    width = cfg.size("intermediate_size")
    routed = routing.experts(
        cfg,
        width=width,
        shared_width=cfg.count("shared_intermediate_size", default=0),
        router_correction=cfg.flag("use_routing_bias", default=True),
    )
    dense = DenseFFN(width=cfg.size("dense_intermediate_size"))
    hidden = hidden_size(cfg)
    layers = [
        Layer(
            mixer=sparse if chosen else full,
            ffn=routed if experts else dense,
            norm_params=2 * hidden,
        )
        for chosen, experts in zip(_chosen(cfg), routing.after_dense(cfg), strict=True)
    ]
    return with_prediction(cfg, decoder(cfg, layers))


def _indexer(cfg: Fields) -> Indexer:
    nested = cfg.optional_child("sparse_attention_config")
    part = nested if nested.raw else cfg
    block = part.size("sparse_block_size", "index_block_size")
    return Indexer(
        heads=part.size("sparse_num_index_heads", "index_n_heads"),
        head_dim=part.size("sparse_index_dim", "index_head_dim"),
        top_k=block * part.size("sparse_topk_blocks", "index_topk_blocks"),
        block=block,
        rms_norms=True,
        from_latent=False,
        head_weights=False,
    )


def _chosen(cfg: Fields) -> Sequence[bool]:
    """The layers that read chosen blocks only."""
    layers = layer_count(cfg)
    if cfg.has("layer_types"):
        table = {"minimax_m3_sparse": True, "full_attention": False}
        kinds = cfg.sequence("layer_types", length=layers)
        return [cfg.choice("layer_types", table, kind) for kind in kinds]
    nested = cfg.optional_child("sparse_attention_config")
    if not nested.has("sparse_attention_freq"):
        return [False] * layers
    return [bool(one) for one in nested.sequence("sparse_attention_freq", length=layers)]
