"""One decoder layer: which counter serves which kind, and what lies between mixer and FFN."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from analyzer.counting import elementwise
from analyzer.counting.attention import attention
from analyzer.counting.communication import gather_tokens, join
from analyzer.counting.compressed import compressed_attention
from analyzer.counting.embedding import projections
from analyzer.counting.ffn import dense
from analyzer.counting.linear import quantisation, widened
from analyzer.counting.linear_attention import gated_delta, lightning
from analyzer.counting.lora import adapters
from analyzer.counting.mamba import mamba1, mamba2
from analyzer.counting.mla import mla
from analyzer.counting.moe import moe
from analyzer.counting.short_conv import short_conv
from analyzer.counting.work import Work
from analyzer.errors import ConfigError
from analyzer.model import (
    MLA,
    Attention,
    CompressedAttention,
    DenseFFN,
    GatedDelta,
    Kind,
    Layer,
    Lightning,
    Mamba1,
    Mamba2,
    MoE,
    ShortConv,
)
from analyzer.optable import Op

COUNTERS: dict[type[Kind], Callable[[Work, Any], list[Op]]] = {
    Attention: attention,
    MLA: mla,
    CompressedAttention: compressed_attention,
    Mamba1: mamba1,
    Mamba2: mamba2,
    GatedDelta: gated_delta,
    Lightning: lightning,
    ShortConv: short_conv,
    DenseFFN: dense,
    MoE: moe,
}
"""A new kind of layer is one entry here and one file beside this one."""


def count_kind(work: Work, kind: Kind | None) -> list[Op]:
    """Operators of a mixer or an FFN, without its entry and exit."""
    if kind is None:
        return []
    counter = COUNTERS.get(type(kind))
    if counter is None:
        raise ConfigError(f"no counter for layers of kind {type(kind).__name__}")
    return counter(work, kind)


def count_layer(work: Work, layer: Layer) -> list[Op]:
    """Operators of one layer; none where a text-only pass skips it."""
    if isinstance(layer.mixer, Attention) and layer.mixer.cross:
        return []
    return layer_operators(work, layer)


def layer_operators(work: Work, layer: Layer) -> list[Op]:
    """Operators of one layer, in the order of execution but for norms, which come first."""
    mixer = [*count_kind(work, layer.mixer), *count_kind(work, layer.beside)]
    feed_forward = count_kind(work, layer.ffn)
    if isinstance(layer.ffn, MoE):  # sends its tokens round itself
        parts = [*_enclosed(work, mixer, "mixer"), *feed_forward]
    elif layer.parallel:
        parts = _enclosed(work, [*mixer, *feed_forward], "block")
    else:
        parts = [*_enclosed(work, mixer, "mixer"), *_enclosed(work, feed_forward, "ffn")]
    parts += projections(work, layer.linears, "layer")
    return [
        *elementwise.norms(work, layer),
        *widened(work, parts),
        *adapters(work, parts),
        *quantisation(work, parts),
    ]


def _enclosed(work: Work, ops: list[Op], name: str) -> list[Op]:
    if not ops:
        return []
    return [*gather_tokens(work, name), *ops, *join(work, name, ops)]
