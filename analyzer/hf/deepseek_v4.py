"""DeepSeek-V4: compressed attention, hash-routed first layers and hyper-connections."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analyzer.hf import routing
from analyzer.hf.common import decoder, head_count, hidden_size, layer_count, with_prediction
from analyzer.hf.fields import Fields
from analyzer.model import CompressedAttention, Indexer, Layer, Linear, Model, MoE

_LOCAL, _SPARSE, _HEAVY = (
    "sliding_attention",
    "compressed_sparse_attention",
    "heavily_compressed_attention",
)
_RATIO_KINDS = {0: _LOCAL, 4: _SPARSE, 128: _HEAVY}


def read(cfg: Fields) -> Model:
    """A DeepSeek-V4 model."""
    streams = cfg.size("hc_mult", default=4)
    routed = _experts(cfg)
    hashed = msgspec.structs.replace(routed, hashed=True, router_correction=False)
    layers = [
        _layer(cfg, mixer, hashed if by_table else routed, streams)
        for mixer, by_table in zip(_mixers(cfg), _hashed(cfg), strict=True)
    ]
    hidden = hidden_size(cfg)
    model = decoder(
        cfg,
        layers,
        residual_streams=streams,
        linears=(Linear(inputs=streams * hidden, outputs=streams),),
        extra_params=streams + 1,
    )
    return with_prediction(cfg, model)


def _layer(cfg: Fields, mixer: CompressedAttention, ffn: MoE, streams: int) -> Layer:
    """Mixer and FFN each take one stream made of all, by weights that depend on them."""
    hidden = hidden_size(cfg)
    weights = (2 + streams) * streams
    connection = Linear(inputs=streams * hidden, outputs=weights)
    return Layer(
        mixer=mixer,
        ffn=ffn,
        norm_params=2 * hidden,
        linears=(connection, connection),
        extra_params=2 * (weights + 3),
    )


def _experts(cfg: Fields) -> MoE:
    width = cfg.size("moe_intermediate_size")
    return routing.experts(
        cfg,
        width=width,
        shared_width=routing.shared_count_width(cfg, width),
        router_correction=True,
    )


def _hashed(cfg: Fields) -> Sequence[bool]:
    """The layers whose experts a table of token ids picks."""
    layers = layer_count(cfg)
    if cfg.has("mlp_layer_types"):
        table = {"hash_moe": True, "moe": False}
        kinds = cfg.sequence("mlp_layer_types", length=layers)
        return [cfg.choice("mlp_layer_types", table, kind) for kind in kinds]
    first = cfg.count("num_hash_layers", default=3)
    return [layer < first for layer in range(layers)]


def _kinds(cfg: Fields) -> Sequence[str]:
    layers = layer_count(cfg)
    if cfg.has("layer_types"):
        return cfg.sequence("layer_types", length=layers)
    if cfg.has("compress_ratios"):
        names = {str(ratio): kind for ratio, kind in _RATIO_KINDS.items()}
        ratios = cfg.sequence("compress_ratios")[:layers]
        return [cfg.choice("compress_ratios", names, str(ratio)) for ratio in ratios]
    return [_HEAVY if layer < 2 or layer % 2 == 0 else _SPARSE for layer in range(layers)]


def _mixers(cfg: Fields) -> list[CompressedAttention]:
    rates = cfg.optional_child("compress_rates")
    local = CompressedAttention(
        heads=head_count(cfg),
        head_dim=cfg.size("head_dim"),
        rope_dim=_rope_dim(cfg),
        q_lora_rank=cfg.size("q_lora_rank"),
        o_groups=cfg.size("o_groups"),
        o_rank=cfg.size("o_lora_rank"),
        window=cfg.size("sliding_window"),
    )
    indexer = Indexer(
        heads=cfg.size("index_n_heads"),
        head_dim=cfg.size("index_head_dim"),
        top_k=cfg.size("index_topk"),
    )
    table = {
        _LOCAL: local,
        _SPARSE: msgspec.structs.replace(
            local, ratio=rates.size(_SPARSE, default=4), overlap=True, indexer=indexer
        ),
        _HEAVY: msgspec.structs.replace(local, ratio=rates.size(_HEAVY, default=128)),
    }
    return [cfg.choice("layer_types", table, kind) for kind in _kinds(cfg)]


def _rope_dim(cfg: Fields) -> int:
    given = cfg.optional_size("qk_rope_head_dim")
    if given is not None:
        return given
    return int(cfg.size("head_dim") * cfg.number("partial_rotary_factor", default=0.125))
