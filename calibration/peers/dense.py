"""A dense model's sizes under names that other tools share; what they cannot say is refused."""

from __future__ import annotations

from analyzer.errors import InputError
from analyzer.model import Attention, DenseFFN, Model


class Unsuitable(InputError):
    """A row that a peer has no way to be asked about."""


def sizes(model: Model) -> dict[str, int | bool]:
    """Sizes of a model whose layers are all alike, with plain attention and a dense FFN."""
    kinds = model.layer_groups()
    layer = next(iter(kinds))
    if len({(kind.mixer, kind.ffn) for kind in kinds}) > 1:
        raise Unsuitable("layers of several kinds")
    mixer, ffn = layer.mixer, layer.ffn
    if not isinstance(mixer, Attention) or not isinstance(ffn, DenseFFN):
        raise Unsuitable("not a dense model with plain attention")
    return {
        "hidden": model.hidden,
        "vocab": model.vocab,
        "layers": len(model.layers),
        "heads": mixer.heads,
        "kv_heads": mixer.kv_heads,
        "head_dim": mixer.head_dim,
        "width": ffn.width,
        "gated": ffn.gated,
        "tied": model.tied_embeddings,
    }
