"""Pieces that many families share: the attention and the frame of a decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from analyzer.hf.fields import Fields
from analyzer.hf.quantization import native_dense_weights, native_weights
from analyzer.model import Attention, Layer, Linear, Model

RMS = 1
"""Parameters per channel of an RMS norm, or of a LayerNorm without bias."""
LAYER_NORM = 2
"""Parameters per channel of a LayerNorm with weight and bias."""


def layer_count(cfg: Fields) -> int:
    """Number of decoder layers."""
    return cfg.size("num_hidden_layers", "n_layer", "n_layers", "num_layers")


def hidden_size(cfg: Fields) -> int:
    """Width of the residual stream."""
    return cfg.size("hidden_size", "n_embd", "d_model", "dim")


def head_count(cfg: Fields) -> int:
    """Number of query heads."""
    return cfg.size("num_attention_heads", "n_head", "n_heads")


def head_width(cfg: Fields) -> int:
    """Width of a head: as given, else the hidden size shared out over the heads."""
    given = cfg.optional_size("head_dim")
    if given is not None:
        return given
    return cfg.divide("hidden_size", hidden_size(cfg), "num_attention_heads", head_count(cfg))


def attention(cfg: Fields, **overrides: Any) -> Attention:
    """The attention that the usual keys describe; `overrides` replace single fields."""
    heads = head_count(cfg)
    fields: dict[str, Any] = {
        "heads": heads,
        "kv_heads": cfg.size("num_key_value_heads", default=heads),
        "head_dim": overrides["head_dim"] if "head_dim" in overrides else head_width(cfg),
    }
    fields.update(overrides)
    built = Attention(**fields)
    cfg.divide("num_attention_heads", built.heads, "num_key_value_heads", built.kv_heads)
    return built


def biased(flag: bool) -> dict[str, Any]:
    """The same answer for the biases of query, key and value."""
    return {"q_bias": flag, "k_bias": flag, "v_bias": flag}


def gated_width(cfg: Fields) -> int:
    """Width of the feed-forward part."""
    return cfg.size("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")


def layer_kinds(cfg: Fields, default: Sequence[str]) -> Sequence[Any]:
    """`layer_types` of the configuration, or the family's own pattern."""
    if not cfg.has("layer_types"):
        return default
    return cfg.sequence("layer_types", length=layer_count(cfg))


def decoder(
    cfg: Fields, layers: Sequence[Layer], *, tied: bool = False, norm: int = RMS, **overrides: Any
) -> Model:
    """The frame around the layers: embedding, final norm, head. `tied`: the family's default."""
    hidden = hidden_size(cfg)
    fields: dict[str, Any] = {
        "name": cfg.where,
        "hidden": hidden,
        "vocab": overrides["vocab"] if "vocab" in overrides else cfg.size("vocab_size"),
        "layers": tuple(layers),
        "tied_embeddings": cfg.flag("tie_word_embeddings", default=tied),
        "max_context": cfg.optional_size(
            "max_position_embeddings",
            "n_positions",
            "max_seq_len",
            "seq_length",
            "model_max_length",
        ),
        "final_norm_params": norm * hidden,
        "architecture": cfg.text("model_type", default=""),
        "native_weights": native_weights(cfg),
        "native_dense_weights": native_dense_weights(cfg),
    }
    fields.update(overrides)
    return Model(**fields)


def prediction_layers(layer: Layer, hidden: int, count: int, norms: int = 3) -> tuple[Layer, ...]:
    """Multi-token-prediction layers after DeepSeek-V3: two streams are normed, joined and projected
    to `hidden`, go through one decoder layer and a norm of their own."""
    joined = Layer(
        mixer=layer.mixer,
        ffn=layer.ffn,
        norms=layer.norms + norms,
        norm_params=layer.norm_params + norms * hidden,
        extra_params=layer.extra_params,
        linears=(*layer.linears, Linear(inputs=2 * hidden, outputs=hidden)),
    )
    return (joined,) * count


def with_prediction(cfg: Fields, model: Model) -> Model:
    """The model with the multi-token-prediction layers that its configuration counts."""
    count = cfg.count("num_nextn_predict_layers", default=0)
    if not count:
        return model
    extra = prediction_layers(model.layers[-1], model.hidden, count)
    return msgspec.structs.replace(model, prediction_layers=extra)
