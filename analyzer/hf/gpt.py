"""The older decoders: GPT-2, OPT, BLOOM, GPT-NeoX, GPT-J, Falcon, MPT, Phi, StarCoder, GPT-Neo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from analyzer.hf.common import (
    LAYER_NORM,
    RMS,
    attention,
    biased,
    decoder,
    head_count,
    hidden_size,
    layer_count,
)
from analyzer.hf.fields import Fields
from analyzer.model import Attention, DenseFFN, Layer, Linear, Model

WRITTEN_OUT = {"gelu_new": 8, "gelu_fast": 9}
"""Activations that transformers writes out step by step, and their kernels; others are one."""
_BLOOM_KERNELS = 9
"""BLOOM has a GELU of its own, written out like `gelu_fast`."""
_ALL_BIASED: dict[str, Any] = {**biased(True), "o_bias": True}


def _stack(cfg: Fields, mixer: Attention, ffn: DenseFFN, norms: int = 2) -> Layer:
    """A layer with `norms` LayerNorms that have biases."""
    norm_params = norms * LAYER_NORM * hidden_size(cfg)
    return Layer(mixer=mixer, ffn=ffn, norms=norms, norm_params=norm_params)


def _model(cfg: Fields, layers: Sequence[Layer], *, tied: bool = True, **overrides: Any) -> Model:
    return decoder(cfg, layers, tied=tied, norm=LAYER_NORM, **overrides)


def _mlp(cfg: Fields, *keys: str, bias: bool = True, activation: str = "gelu") -> DenseFFN:
    """The ungated FFN, four times as wide as the hidden size where no key says otherwise;
    `activation`: the family's default."""
    width = cfg.size(*keys, default=4 * hidden_size(cfg))
    named = cfg.text("activation_function", "hidden_act", default=activation)
    kernels = WRITTEN_OUT.get(named, 1)
    return DenseFFN(width=width, gated=False, bias=bias, activation_kernels=kernels)


def read_gpt2(cfg: Fields) -> Model:
    """GPT-2 and the plain GPT of FasterTransformer's tables."""
    mixer = attention(cfg, **_ALL_BIASED, rope=False, merged=True)
    layer = _stack(cfg, mixer, _mlp(cfg, "n_inner", activation="gelu_new"))
    positions = cfg.size("n_positions", "n_ctx", "max_position_embeddings")
    layers = [layer] * layer_count(cfg)
    return _model(cfg, layers, learned_positions=positions, input_major=True)


def read_bigcode(cfg: Fields) -> Model:
    """StarCoder 1: GPT-2 with one key-value head."""
    kv_heads = 1 if cfg.flag("multi_query", default=True) else head_count(cfg)
    mixer = attention(cfg, **_ALL_BIASED, kv_heads=kv_heads, rope=False, merged=True)
    layer = _stack(cfg, mixer, _mlp(cfg, "n_inner"))
    return _model(cfg, [layer] * layer_count(cfg), learned_positions=cfg.size("n_positions"))


def read_opt(cfg: Fields) -> Model:
    """OPT, the 350M with its narrower embedding and norms behind included."""
    hidden = hidden_size(cfg)
    bias = cfg.flag("enable_bias", default=True)
    mixer = attention(cfg, **biased(bias), o_bias=bias, rope=False)
    layer = _stack(cfg, mixer, _mlp(cfg, "ffn_dim", bias=bias))
    narrow = cfg.size("word_embed_proj_dim", default=hidden)
    ends = (
        ()
        if narrow == hidden
        else (
            Linear(inputs=narrow, outputs=hidden),
            Linear(inputs=hidden, outputs=narrow),
        )
    )
    has_final = cfg.flag("do_layer_norm_before", default=True) and not cfg.flag(
        "_remove_final_layer_norm", default=False
    )
    return _model(
        cfg,
        [layer] * layer_count(cfg),
        # The first two rows of the table are never used; they are stored all the same.
        learned_positions=cfg.size("max_position_embeddings") + 2,
        embedding_dim=None if narrow == hidden else narrow,
        linears=ends,
        final_norm_params=LAYER_NORM * hidden if has_final else 0,
    )


def read_bloom(cfg: Fields) -> Model:
    """BLOOM: ALiBi, and a norm behind the embedding."""
    hidden = cfg.size("hidden_size", "n_embed")
    heads = cfg.size("n_head", "num_attention_heads")
    mixer = Attention(
        heads=heads,
        kv_heads=heads,
        head_dim=cfg.divide("hidden_size", hidden, "n_head", heads),
        **_ALL_BIASED,
        rope=False,
        merged=True,
    )
    ffn = DenseFFN(width=4 * hidden, gated=False, bias=True, activation_kernels=_BLOOM_KERNELS)
    layer = Layer(mixer=mixer, ffn=ffn, norm_params=2 * LAYER_NORM * hidden)
    context = cfg.optional_size("seq_length")
    return decoder(
        Fields({**cfg.raw, "hidden_size": hidden}, cfg.where),
        [layer] * layer_count(cfg),
        tied=True,
        norm=LAYER_NORM,
        max_context=context,
        extra_params=LAYER_NORM * hidden,
    )


def read_neox(cfg: Fields) -> Model:
    """GPT-NeoX and Pythia: attention and FFN in parallel, each behind a norm of its own."""
    bias = cfg.flag("attention_bias", default=True)
    layer = Layer(
        mixer=attention(cfg, **biased(bias), o_bias=bias, merged=True),
        ffn=_mlp(cfg, "intermediate_size"),
        norm_params=2 * LAYER_NORM * hidden_size(cfg),
        parallel=cfg.flag("use_parallel_residual", default=True),
    )
    return _model(cfg, [layer] * layer_count(cfg), tied=False)


def read_gptj(cfg: Fields) -> Model:
    """GPT-J: attention and FFN in parallel behind one norm."""
    layer = Layer(
        mixer=attention(cfg),
        ffn=_mlp(cfg, "n_inner", activation="gelu_new"),
        norms=1,
        norm_params=LAYER_NORM * hidden_size(cfg),
        parallel=True,
    )
    return _model(cfg, [layer] * layer_count(cfg), tied=False, lm_head_bias=True)


def read_falcon(cfg: Fields) -> Model:
    """Falcon: multi-query in parallel (7B), grouped with two norms (40B, 180B), or ALiBi (RW)."""
    newer = cfg.flag("new_decoder_architecture", default=False)
    heads = head_count(cfg)
    shared = cfg.flag("multi_query", default=True)
    kv_heads = cfg.size("num_kv_heads", "n_head_kv", default=heads) if newer else heads
    bias = cfg.flag("bias", default=False)
    parallel = newer or cfg.flag("parallel_attn", default=True)
    norms = cfg.size("num_ln_in_parallel_attn", default=2 if newer else 1) if parallel else 2
    layer = Layer(
        mixer=attention(
            cfg,
            **biased(bias),
            o_bias=bias,
            kv_heads=kv_heads if newer or not shared else 1,
            rope=not cfg.flag("alibi", default=False),
            merged=True,
        ),
        ffn=_mlp(cfg, "ffn_hidden_size", bias=bias),
        norms=norms,
        norm_params=norms * LAYER_NORM * hidden_size(cfg),
        parallel=parallel,
    )
    return _model(cfg, [layer] * layer_count(cfg))


def read_mpt(cfg: Fields) -> Model:
    """MPT: ALiBi, no biases anywhere."""
    hidden = hidden_size(cfg)
    attn = cfg.optional_child("attn_config")
    kv_heads = attn.size("kv_n_heads", default=head_count(cfg))
    width = int(hidden * cfg.number("expansion_ratio", default=4))
    layer = Layer(
        mixer=attention(
            cfg,
            kv_heads=kv_heads,
            qk_norm="full" if attn.flag("qk_ln", default=False) else "none",
            rope=False,
            merged=True,
        ),
        ffn=DenseFFN(width=width, gated=False),
        norm_params=2 * RMS * hidden,
    )
    return decoder(cfg, [layer] * layer_count(cfg), tied=True)


def read_phi(cfg: Fields) -> Model:
    """Phi-1 and Phi-2: biases everywhere, attention and FFN in parallel behind one norm."""
    mixer = attention(cfg, **_ALL_BIASED)
    # Norms of query and key here have biases, and are one per head width and not per head.
    extra = 2 * LAYER_NORM * mixer.head_dim if cfg.flag("qk_layernorm", default=False) else 0
    layer = Layer(
        mixer=mixer,
        ffn=_mlp(cfg, "intermediate_size", activation="gelu_new"),
        norms=1,
        norm_params=LAYER_NORM * hidden_size(cfg),
        parallel=True,
        extra_params=extra,
    )
    return _model(cfg, [layer] * layer_count(cfg), tied=False, lm_head_bias=True)


def read_gpt_neo(cfg: Fields) -> Model:
    """GPT-Neo: full and windowed attention take turns."""
    heads = cfg.size("num_heads", "num_attention_heads")
    window = cfg.size("window_size")
    layers = []
    for kind in _neo_kinds(cfg):
        mixer = Attention(
            heads=heads,
            kv_heads=heads,
            head_dim=cfg.divide("hidden_size", hidden_size(cfg), "num_heads", heads),
            o_bias=True,
            window=window if kind == "local" else None,
            rope=False,
        )
        ffn = _mlp(cfg, "intermediate_size", activation="gelu_new")
        layers.append(_stack(cfg, mixer, ffn))
    return _model(cfg, layers, learned_positions=cfg.size("max_position_embeddings"))


def _neo_kinds(cfg: Fields) -> list[str]:
    """`attention_types` is a list of ([kind, ...], repeats)."""
    if cfg.has("attention_layers"):
        return list(cfg.sequence("attention_layers", length=layer_count(cfg)))
    groups = cfg.sequence("attention_types")
    return [kind for kinds, repeats in groups for _ in range(repeats) for kind in kinds]
