"""Single architectures: Llama-4, Llama-3.2-Vision's text, DBRX, Arctic, Grok-1, DeciLM, ChatGLM."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from analyzer.hf import routing
from analyzer.hf.common import (
    attention,
    biased,
    decoder,
    gated_width,
    head_count,
    hidden_size,
    layer_count,
)
from analyzer.hf.fields import Fields
from analyzer.model import Attention, DenseFFN, Layer, Linear, Model, MoE, Table


def read_llama4(cfg: Fields) -> Model:
    """Llama-4: attention in blocks except in each fourth layer, one shared expert."""
    bias = cfg.flag("attention_bias", default=False)
    full = attention(cfg, **biased(bias), o_bias=bias, rope=False)
    local = attention(
        cfg, **biased(bias), o_bias=bias, window=cfg.size("attention_chunk_size"), chunked=True
    )
    width = cfg.size("intermediate_size")
    sparse = routing.experts(cfg, width=width, shared_width=width)
    dense = DenseFFN(width=cfg.size("intermediate_size_mlp"))
    layers = [
        Layer(
            mixer=local if rotated else full,
            ffn=sparse if routed else dense,
            norm_params=2 * hidden_size(cfg),
        )
        for rotated, routed in zip(_rotated(cfg), routing.interleaved(cfg), strict=True)
    ]
    return decoder(cfg, layers)


def _rotated(cfg: Fields) -> list[bool]:
    """The layers with rotary positions, which are those that attend in blocks.

    The released `no_rope_layers` holds 1 where there *is* a rotation, and may be empty.
    """
    layers = layer_count(cfg)
    if cfg.has("no_rope_layers") and cfg.raw["no_rope_layers"]:
        return [bool(one) for one in cfg.sequence("no_rope_layers", length=layers)]
    every = cfg.size("no_rope_layer_interval", default=4)
    return [(layer + 1) % every != 0 for layer in range(layers)]


def read_mllama(cfg: Fields) -> Model:
    """Llama-3.2-Vision: cross-attention layers that a text-only pass skips."""
    own = Layer(
        mixer=attention(cfg),
        ffn=DenseFFN(width=gated_width(cfg)),
        norm_params=2 * hidden_size(cfg),
    )
    crossing = msgspec.structs.replace(
        own, mixer=attention(cfg, qk_norm="head", cross=True, rope=False), extra_params=2
    )
    crossed = set(cfg.sequence("cross_attention_layers"))
    layers = [crossing if layer in crossed else own for layer in range(layer_count(cfg))]
    # Eight image tokens that the embedding knows and the head does not.
    return decoder(cfg, layers, tables=(Table(rows=8, width=hidden_size(cfg)),))


def read_dbrx(cfg: Fields) -> Model:
    """DBRX: sixteen fine-grained experts, norms without bias."""
    hidden = hidden_size(cfg)
    ffn, attn = cfg.child("ffn_config"), cfg.child("attn_config")
    layer = Layer(
        mixer=attention(cfg, kv_heads=attn.size("kv_n_heads")),
        ffn=MoE(
            experts=ffn.size("moe_num_experts"),
            top_k=ffn.size("moe_top_k"),
            width=ffn.size("ffn_hidden_size"),
        ),
        norm_params=2 * hidden,
    )
    return decoder(cfg, [layer] * layer_count(cfg))


def read_arctic(cfg: Fields) -> Model:
    """Arctic: experts beside a dense FFN as wide as the residual stream."""
    hidden = hidden_size(cfg)
    layer = Layer(
        mixer=attention(cfg),
        ffn=routing.experts(cfg, width=gated_width(cfg), shared_width=hidden),
        norms=3,
        norm_params=3 * hidden,
    )
    return decoder(cfg, [layer] * layer_count(cfg))


def read_grok(cfg: Fields) -> Model:
    """Grok-1: eight wide experts, norms before and behind each part."""
    layer = Layer(
        mixer=attention(cfg),
        ffn=routing.experts(cfg, width=gated_width(cfg)),
        norms=4,
        norm_params=4 * hidden_size(cfg),
    )
    return decoder(cfg, [layer] * layer_count(cfg), tied=True)


def read_deci(cfg: Fields) -> Model:
    """DeciLM: a number of key-value heads for every layer; or Nemotron's searched blocks."""
    if cfg.has("block_configs"):
        blocks = cfg.sequence("block_configs", length=layer_count(cfg))
        return decoder(cfg, [_searched_block(cfg, block) for block in blocks])
    ffn = DenseFFN(width=gated_width(cfg))
    heads = cfg.sequence("num_key_value_heads_per_layer", length=layer_count(cfg))
    layers = [
        Layer(
            mixer=attention(cfg, kv_heads=kv_heads),
            ffn=ffn,
            norm_params=2 * hidden_size(cfg),
        )
        for kv_heads in heads
    ]
    return decoder(cfg, layers)


def _searched_block(cfg: Fields, block: Mapping[str, object]) -> Layer:
    """One block of a searched architecture: each half kept, made a linear map, or left out."""
    fields = Fields(block, f"{cfg.where}.block_configs")
    mixing, widening = fields.child("attention"), fields.child("ffn")
    hidden = hidden_size(cfg)
    linears: tuple[Linear, ...] = ()
    norms, mixer, ffn = 0, None, None
    for half in (mixing, widening):
        if half.flag("no_op", default=False):
            continue
        norms += 1
        if half.flag("replace_with_linear", default=False):
            linears += (Linear(inputs=hidden, outputs=hidden),)
        elif half is mixing:
            group = half.size("n_heads_in_group")
            kv_heads = cfg.divide("num_attention_heads", head_count(cfg), "n_heads_in_group", group)
            mixer = attention(cfg, kv_heads=kv_heads)
        else:
            ffn = DenseFFN(width=_searched_width(half.number("ffn_mult"), hidden))
    return Layer(mixer=mixer, ffn=ffn, norms=norms, norm_params=norms * hidden, linears=linears)


def _searched_width(multiple: float, hidden: int) -> int:
    """Two thirds of the stated width, rounded up to 256."""
    return -(-int(2 * multiple * hidden / 3) // 256) * 256


def read_chatglm(cfg: Fields) -> Model:
    """ChatGLM2/3 and GLM-4-9B under their own key names."""
    heads = head_count(cfg)
    grouped = cfg.flag("multi_query_attention", default=False)
    bias = cfg.flag("add_qkv_bias", default=False)
    mixer = Attention(
        heads=heads,
        kv_heads=cfg.size("multi_query_group_num") if grouped else heads,
        head_dim=cfg.size("kv_channels"),
        **biased(bias),
    )
    layer = Layer(
        mixer=mixer,
        ffn=DenseFFN(width=cfg.size("ffn_hidden_size")),
        norm_params=2 * hidden_size(cfg),
    )
    return decoder(cfg, [layer] * layer_count(cfg), vocab=cfg.size("padded_vocab_size"))
