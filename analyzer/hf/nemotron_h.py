"""Nemotron-H and Nemotron-3: one mixer or one FFN in each layer, by a pattern of letters."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from analyzer.hf import routing
from analyzer.hf.common import attention, decoder, hidden_size
from analyzer.hf.fields import Fields
from analyzer.model import FFN, DenseFFN, Layer, Linear, Mamba2, Mixer, Model, MoE

_LETTERS = {"M": "linear_attention", "*": "full_attention", "-": "mlp", "E": "moe"}
_OLDER_NAMES = {"mamba": "linear_attention", "attention": "full_attention"}


def read(cfg: Fields) -> Model:
    """A Nemotron-H or Nemotron-3 model."""
    kinds = _kinds(cfg, "layers_block_type", "hybrid_override_pattern")
    layers = _layers(cfg, kinds)
    drafts = cfg.count("num_nextn_predict_layers", default=0)
    return decoder(cfg, layers, prediction_layers=_prediction(cfg) * drafts)


def _kinds(cfg: Fields, list_key: str, pattern_key: str) -> Sequence[str]:
    if cfg.has(list_key, "layer_types") and not cfg.has(pattern_key):
        kinds = cfg.sequence(list_key, "layer_types")
        return [_OLDER_NAMES.get(kind, kind) for kind in kinds]
    return [cfg.choice(pattern_key, _LETTERS, letter) for letter in cfg.text(pattern_key)]


def _layers(cfg: Fields, kinds: Sequence[str]) -> list[Layer]:
    builders = {
        "linear_attention": lambda: _layer(cfg, mixer=_mamba(cfg)),
        "full_attention": lambda: _layer(cfg, mixer=attention(cfg, rope=False)),
        "mlp": lambda: _layer(cfg, ffn=_dense(cfg)),
        "moe": lambda: _layer(cfg, ffn=_experts(cfg)),
    }
    built = {kind: cfg.choice("layers_block_type", builders, kind)() for kind in set(kinds)}
    return [built[kind] for kind in kinds]


def _layer(cfg: Fields, mixer: Mixer | None = None, ffn: FFN | None = None) -> Layer:
    return Layer(mixer=mixer, ffn=ffn, norms=1, norm_params=hidden_size(cfg))


def _dense(cfg: Fields) -> DenseFFN:
    bias = cfg.flag("mlp_bias", default=False)
    return DenseFFN(width=cfg.size("intermediate_size"), gated=False, bias=bias)


def _mamba(cfg: Fields) -> Mamba2:
    heads, head_dim = cfg.size("mamba_num_heads"), cfg.size("mamba_head_dim")
    return Mamba2(
        inner=heads * head_dim,
        heads=heads,
        head_dim=head_dim,
        groups=cfg.size("n_groups", "mamba_n_groups"),
        state=cfg.size("ssm_state_size"),
        conv=cfg.size("conv_kernel", "mamba_d_conv", default=4),
        conv_bias=cfg.flag("use_conv_bias", "mamba_conv_bias", default=True),
        proj_bias=cfg.flag("use_bias", default=False),
    )


def _experts(cfg: Fields) -> MoE:
    return routing.experts(
        cfg,
        width=cfg.size("moe_intermediate_size"),
        gated=False,
        shared_width=cfg.size("moe_shared_expert_intermediate_size"),
        bias=cfg.flag("mlp_bias", default=False),
        router_correction=True,
        latent=cfg.optional_size("moe_latent_size"),
    )


def _prediction(cfg: Fields) -> tuple[Layer, ...]:
    """The layers of one draft step; the first also joins the two streams."""
    if not cfg.has("mtp_layers_block_type", "mtp_hybrid_override_pattern"):
        return ()
    layers = _layers(cfg, _kinds(cfg, "mtp_layers_block_type", "mtp_hybrid_override_pattern"))
    hidden = hidden_size(cfg)
    first = msgspec.structs.replace(
        layers[0],
        norms=layers[0].norms + 3,
        norm_params=layers[0].norm_params + 3 * hidden,
        linears=(Linear(inputs=2 * hidden, outputs=hidden),),
    )
    return (first, *layers[1:])
