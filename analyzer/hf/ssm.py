"""State-space models without attention, and the Mamba-2 part that hybrids share."""

from __future__ import annotations

from analyzer.hf.common import decoder, hidden_size, layer_count
from analyzer.hf.fields import Fields
from analyzer.model import Layer, Mamba1, Mamba2, Model


def inner_width(cfg: Fields, *expand_keys: str) -> int:
    """Channels of the state space: a multiple of the hidden size that need not be whole."""
    return int(cfg.number(*expand_keys, default=2) * hidden_size(cfg))


def mamba2(cfg: Fields, inner: int, *, proj_bias: bool, gated_norm: bool = True) -> Mamba2:
    """The Mamba-2 mixer that the keys of Bamba, Granite, Zamba2 and Falcon-H1 describe."""
    heads = cfg.size("mamba_n_heads", "n_mamba_heads")
    given = cfg.raw.get("mamba_d_head", cfg.raw.get("mamba_headdim"))
    automatic = given in (None, "auto")
    return Mamba2(
        inner=inner,
        heads=heads,
        head_dim=inner // heads if automatic else cfg.size("mamba_d_head", "mamba_headdim"),
        groups=cfg.size("mamba_n_groups", "mamba_ngroups", default=1),
        state=cfg.size("mamba_d_state"),
        conv=cfg.size("mamba_d_conv"),
        conv_bias=cfg.flag("mamba_conv_bias", "use_conv_bias", default=True),
        proj_bias=proj_bias,
        gated_norm=gated_norm,
    )


def read_mamba1(cfg: Fields) -> Model:
    """Mamba, and Falcon-Mamba whose inner norms have no weights."""
    hidden = hidden_size(cfg)
    rank = cfg.raw.get("time_step_rank", "auto")
    mixer = Mamba1(
        inner=cfg.optional_size("intermediate_size", "d_inner") or inner_width(cfg, "expand"),
        state=cfg.size("state_size"),
        conv=cfg.size("conv_kernel", default=4),
        dt_rank=-(-hidden // 16) if rank == "auto" else cfg.size("time_step_rank"),
        conv_bias=cfg.flag("use_conv_bias", default=True),
        proj_bias=cfg.flag("use_bias", default=False),
    )
    layer = Layer(mixer=mixer, ffn=None, norms=1, norm_params=hidden)
    return decoder(cfg, [layer] * layer_count(cfg), tied=True)


def read_mamba2(cfg: Fields) -> Model:
    """Mamba-2."""
    hidden = hidden_size(cfg)
    mixer = Mamba2(
        inner=inner_width(cfg, "expand"),
        heads=cfg.size("num_heads"),
        head_dim=cfg.size("head_dim"),
        groups=cfg.size("n_groups"),
        state=cfg.size("state_size"),
        conv=cfg.size("conv_kernel", default=4),
        conv_bias=cfg.flag("use_conv_bias", default=True),
        proj_bias=cfg.flag("use_bias", default=False),
    )
    if mixer.heads * mixer.head_dim != mixer.inner:
        raise cfg.conflict(
            "num_heads * head_dim",
            mixer.heads * mixer.head_dim,
            "expand * hidden_size",
            mixer.inner,
        )
    layer = Layer(mixer=mixer, ffn=None, norms=1, norm_params=hidden)
    return decoder(cfg, [layer] * layer_count(cfg))
