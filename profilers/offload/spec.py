"""From a Hugging Face config to what the engine computes: sizes, numerics and tensor names.

One entry per family in FAMILIES. The names are those of published checkpoints, since the engine
reads checkpoints in place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from analyzer.errors import ConfigError, nearest
from analyzer.offload_shapes import OffloadDims, TensorShape

Config = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class ModelSpec:
    """Everything about the model that is not a weight."""

    family: str
    dims: OffloadDims
    eps: float
    activation: str
    names: Mapping[str, str]
    layer_norm: bool = False
    inverse_frequencies: tuple[float, ...] = ()
    rope_scale: float = 1.0
    position_offset: int = 0
    windows: tuple[int, ...] = ()
    normalise_experts: bool = True
    max_positions: int = 0
    eos: tuple[int, ...] = ()
    pad: int = 0

    def checkpoint_name(self, tensor: TensorShape) -> str:
        """The tensor's name in a published checkpoint."""
        base, _, ending = tensor.role.partition("_bias")
        stem = self.names[base]
        suffix = "bias" if tensor.role.endswith("_bias") else "weight"
        del ending
        return f"{stem.format(layer=tensor.layer, expert=tensor.expert)}.{suffix}"


_LLAMA_NAMES = {
    "embed": "model.embed_tokens",
    "attn_norm": "model.layers.{layer}.input_layernorm",
    "q": "model.layers.{layer}.self_attn.q_proj",
    "k": "model.layers.{layer}.self_attn.k_proj",
    "v": "model.layers.{layer}.self_attn.v_proj",
    "q_norm": "model.layers.{layer}.self_attn.q_norm",
    "k_norm": "model.layers.{layer}.self_attn.k_norm",
    "o": "model.layers.{layer}.self_attn.o_proj",
    "mlp_norm": "model.layers.{layer}.post_attention_layernorm",
    "gate": "model.layers.{layer}.mlp.gate_proj",
    "up": "model.layers.{layer}.mlp.up_proj",
    "down": "model.layers.{layer}.mlp.down_proj",
    "final_norm": "model.norm",
    "head": "lm_head",
}
_MIXTRAL_NAMES = _LLAMA_NAMES | {
    "router": "model.layers.{layer}.block_sparse_moe.gate",
    "gate": "model.layers.{layer}.block_sparse_moe.experts.{expert}.w1",
    "up": "model.layers.{layer}.block_sparse_moe.experts.{expert}.w3",
    "down": "model.layers.{layer}.block_sparse_moe.experts.{expert}.w2",
}
_QWEN3_MOE_NAMES = _LLAMA_NAMES | {
    "router": "model.layers.{layer}.mlp.gate",
    "gate": "model.layers.{layer}.mlp.experts.{expert}.gate_proj",
    "up": "model.layers.{layer}.mlp.experts.{expert}.up_proj",
    "down": "model.layers.{layer}.mlp.experts.{expert}.down_proj",
}
_OPT_NAMES = {
    "embed": "model.decoder.embed_tokens",
    "positions": "model.decoder.embed_positions",
    "attn_norm": "model.decoder.layers.{layer}.self_attn_layer_norm",
    "q": "model.decoder.layers.{layer}.self_attn.q_proj",
    "k": "model.decoder.layers.{layer}.self_attn.k_proj",
    "v": "model.decoder.layers.{layer}.self_attn.v_proj",
    "o": "model.decoder.layers.{layer}.self_attn.out_proj",
    "mlp_norm": "model.decoder.layers.{layer}.final_layer_norm",
    "up": "model.decoder.layers.{layer}.fc1",
    "down": "model.decoder.layers.{layer}.fc2",
    "final_norm": "model.decoder.final_layer_norm",
    "head": "lm_head",
}


@dataclass(frozen=True, kw_only=True)
class _Family:
    names: Mapping[str, str]
    qkv_bias: bool | str = False  # a string names the config key that says so
    o_bias: bool | str = False
    mlp_bias: bool | str = False
    qk_norm: bool = False
    window: bool = False
    moe_ffn: str = ""  # the config key of an expert's width; empty for dense families


FAMILIES: dict[str, _Family] = {
    "llama": _Family(
        names=_LLAMA_NAMES, qkv_bias="attention_bias", o_bias="attention_bias", mlp_bias="mlp_bias"
    ),
    "mistral": _Family(names=_LLAMA_NAMES, window=True),
    "qwen2": _Family(names=_LLAMA_NAMES, qkv_bias=True, window=True),
    "qwen3": _Family(
        names=_LLAMA_NAMES,
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        qk_norm=True,
        window=True,
    ),
    "mixtral": _Family(
        names=_MIXTRAL_NAMES,
        window=True,
        moe_ffn="intermediate_size",
    ),
    "qwen3_moe": _Family(
        names=_QWEN3_MOE_NAMES,
        qkv_bias="attention_bias",
        o_bias="attention_bias",
        qk_norm=True,
        window=True,
        moe_ffn="moe_intermediate_size",
    ),
}


def read_spec(config: Config) -> ModelSpec:
    """Understand a `config.json`; an unknown family or an unsupported variant is an error."""
    family = str(config.get("model_type", ""))
    if family == "opt":
        return _opt(config)
    if family not in FAMILIES:
        known = ["opt", *FAMILIES]
        raise ConfigError(
            f"the offload engine does not run model_type {family!r}{nearest(family, known)}; "
            f"it runs {', '.join(sorted(known))}"
        )
    return _decoder(config, family, FAMILIES[family])


def _need(config: Config, key: str) -> Any:
    if config.get(key) is None:
        raise ConfigError(f"config.json lacks {key!r}")
    return config[key]


def _experts(config: Config) -> int:
    """Routed experts per layer; the key was renamed over the years."""
    return int(config.get("num_experts") or _need(config, "num_local_experts"))


def _flag(config: Config, value: bool | str) -> bool:
    return bool(config.get(value, False)) if isinstance(value, str) else value


def _decoder(config: Config, family: str, kind: _Family) -> ModelSpec:
    heads, hidden = int(_need(config, "num_attention_heads")), int(_need(config, "hidden_size"))
    layers = int(_need(config, "num_hidden_layers"))
    head_dim = int(config.get("head_dim") or hidden // heads)
    if kind.moe_ffn and (
        config.get("mlp_only_layers") or config.get("decoder_sparse_step", 1) != 1
    ):
        raise ConfigError("mixture models with some dense layers are not supported here")
    dims = OffloadDims(
        layers=layers,
        hidden=hidden,
        ffn=int(_need(config, kind.moe_ffn or "intermediate_size")),
        heads=heads,
        kv_heads=int(config.get("num_key_value_heads") or heads),
        head_dim=head_dim,
        vocab=int(_need(config, "vocab_size")),
        qkv_bias=_flag(config, kind.qkv_bias),
        o_bias=_flag(config, kind.o_bias),
        mlp_bias=_flag(config, kind.mlp_bias),
        qk_norm=kind.qk_norm,
        tied=bool(config.get("tie_word_embeddings", False)),
        experts=_experts(config) if kind.moe_ffn else 0,
        experts_per_token=int(_need(config, "num_experts_per_tok")) if kind.moe_ffn else 0,
    )
    frequencies, scale = _rope(config, head_dim)
    return ModelSpec(
        family=family,
        dims=dims,
        eps=float(config.get("rms_norm_eps", 1e-6)),
        activation=str(config.get("hidden_act", "silu")),
        names=kind.names,
        inverse_frequencies=frequencies,
        rope_scale=scale,
        windows=_windows(config, layers) if kind.window else (0,) * layers,
        normalise_experts=family == "mixtral" or bool(config.get("norm_topk_prob", False)),
        max_positions=int(config.get("max_position_embeddings", 0)),
        **_ends(config),
    )


def _opt(config: Config) -> ModelSpec:
    hidden, heads = int(_need(config, "hidden_size")), int(_need(config, "num_attention_heads"))
    if not config.get("do_layer_norm_before", True) or (
        config.get("word_embed_proj_dim", hidden) != hidden
    ):
        raise ConfigError("OPT-350m's post-norm layout with projected embeddings is not supported")
    bias = bool(config.get("enable_bias", True))
    positions = int(_need(config, "max_position_embeddings"))
    dims = OffloadDims(
        layers=int(_need(config, "num_hidden_layers")),
        hidden=hidden,
        ffn=int(_need(config, "ffn_dim")),
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        vocab=int(_need(config, "vocab_size")),
        gated=False,
        norm_bias=bool(config.get("layer_norm_elementwise_affine", True)),
        qkv_bias=bias,
        o_bias=bias,
        mlp_bias=bias,
        tied=bool(config.get("tie_word_embeddings", True)),
        positions=positions + 2,
    )
    return ModelSpec(
        family="opt",
        dims=dims,
        eps=1e-5,
        activation=str(config.get("activation_function", "relu")),
        names=_OPT_NAMES,
        layer_norm=True,
        position_offset=2,
        windows=(0,) * dims.layers,
        max_positions=positions,
        **_ends(config),
    )


def _ends(config: Config) -> dict[str, Any]:
    eos = config.get("eos_token_id")
    ends = () if eos is None else tuple(eos) if isinstance(eos, list | tuple) else (int(eos),)
    pad = config.get("pad_token_id")
    return {"eos": ends, "pad": int(pad) if pad is not None else (ends[0] if ends else 0)}


def _windows(config: Config, layers: int) -> tuple[int, ...]:
    """Sliding window of each layer; 0 where a layer sees everything."""
    window = int(config.get("sliding_window") or 0)
    if not window or not config.get("use_sliding_window", True):
        return (0,) * layers
    kinds = config.get("layer_types")
    if kinds:
        return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
    first = int(config.get("max_window_layers", 0))
    return tuple(window if layer >= first else 0 for layer in range(layers))


def _rope(config: Config, head_dim: int) -> tuple[tuple[float, ...], float]:
    """Inverse frequencies and the attention factor of the rotary embedding."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    base = float(rope.get("rope_theta") or config.get("rope_theta") or 10000.0)
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    if kind not in _ROPE:
        raise ConfigError(
            f"rotary scaling {kind!r} is not supported{nearest(kind, _ROPE)}; "
            f"supported: {', '.join(_ROPE)}"
        )
    plain = [base ** (-index / head_dim) for index in range(0, head_dim, 2)]
    return tuple(_ROPE[kind](plain, rope)), 1.0


def _linear_rope(plain: list[float], rope: dict[str, Any]) -> list[float]:
    return [value / float(rope["factor"]) for value in plain]


def _llama3_rope(plain: list[float], rope: dict[str, Any]) -> list[float]:
    """Llama 3.1: long wavelengths are stretched, short ones kept, the middle interpolated."""
    factor = float(rope["factor"])
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    context = float(rope["original_max_position_embeddings"])
    scaled = []
    for value in plain:
        turns = context * value / (2 * math.pi)
        blend = min(1.0, max(0.0, (turns - low) / (high - low)))
        scaled.append((1 - blend) * value / factor + blend * value)
    return scaled


_ROPE = {
    "default": lambda plain, rope: plain,
    "linear": _linear_rope,
    "llama3": _llama3_rope,
}
