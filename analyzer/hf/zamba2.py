"""Zamba2: Mamba-2 layers, some with a shared transformer block and adapters in front."""

from __future__ import annotations

from collections.abc import Sequence

from analyzer.hf.common import attention, decoder, hidden_size, layer_count
from analyzer.hf.fields import Fields
from analyzer.hf.ssm import inner_width, mamba2
from analyzer.model import DenseFFN, Layer, Linear, Model


def read(cfg: Fields) -> Model:
    """A Zamba2 model. Each call of a shared block is a layer before its Mamba layer."""
    bias = cfg.flag("add_bias_linear", default=False)
    mamba = Layer(
        mixer=mamba2(cfg, inner_width(cfg, "mamba_expand"), proj_bias=bias),
        ffn=None,
        norms=1,
        norm_params=hidden_size(cfg),
    )
    blocks = cfg.size("num_mem_blocks", default=1)
    layers: list[Layer] = []
    calls = 0
    for hybrid in _hybrid(cfg):
        if hybrid:
            layers.append(_shared_block(cfg, stored=calls < blocks, bias=bias))
            calls += 1
        layers.append(mamba)
    return decoder(cfg, layers, tied=True)


def _hybrid(cfg: Fields) -> Sequence[bool]:
    layers = layer_count(cfg)
    if cfg.has("layers_block_type"):
        table = {"hybrid": True, "mamba": False, "linear_attention": False}
        kinds = cfg.sequence("layers_block_type", length=layers)
        return [cfg.choice("layers_block_type", table, kind) for kind in kinds]
    listed = set(cfg.sequence("hybrid_layer_ids"))
    return [layer in listed for layer in range(layers)]


def _shared_block(cfg: Fields, *, stored: bool, bias: bool) -> Layer:
    """The block reads the layer's input beside the embedding: twice the hidden size."""
    hidden = hidden_size(cfg)
    wide = cfg.size("attention_hidden_size", default=2 * hidden)
    heads = cfg.size("num_attention_heads")
    head_dim = cfg.optional_size("attention_head_dim") or wide // heads
    width = cfg.size("intermediate_size", default=4 * hidden)
    rank = cfg.size("adapter_rank", default=128)
    adapters = [Linear(inputs=hidden, outputs=rank), Linear(inputs=rank, outputs=2 * width)]
    if cfg.flag("use_shared_attention_adapter", default=False):
        pair = (Linear(inputs=wide, outputs=rank), Linear(inputs=rank, outputs=wide))
        adapters += [*pair] * 3
    return Layer(
        mixer=attention(
            cfg,
            head_dim=head_dim,
            input_width=wide,
            rope=cfg.flag("use_mem_rope", default=False),
        ),
        ffn=DenseFFN(width=width, bias=bias),
        norm_params=wide + hidden,
        weights_shared=not stored,
        linears=(*adapters, Linear(inputs=hidden, outputs=hidden)),
    )
