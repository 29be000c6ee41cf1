"""Weights that are quantised in blocks cannot be cut inside a block.

One scale serves a square of values, so each rank's share of a matrix must be whole blocks along the
side that tensor parallelism cuts. Servers refuse to load such a model otherwise: experts of width
1,536 in blocks of 128 take two or four ranks, not eight (192 each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from analyzer import precision
from analyzer.errors import ConfigError
from analyzer.model import MLA, Attention, DenseFFN, GatedDelta, Layer, Model, MoE
from analyzer.plan import Plan


class Side(NamedTuple):
    """A side of a matrix that ranks share."""

    what: str
    size: int
    ranks: int


def check_blocks(plan: Plan, model: Model) -> None:
    """Refuse layouts that would cut a block of the weights' format."""
    weights = plan.weights or model.native_weights
    block = precision.lookup(weights).block
    if not block:
        return
    for layer in model.layer_groups():
        for side in _sides(plan, model, layer):
            if side.ranks > 1 and side.size % (side.ranks * block):
                raise ConfigError(_refusal(weights, block, side, model.name))


def _refusal(weights: str, block: int, side: Side, model: str) -> str:
    share = side.size / side.ranks
    fits = [
        str(n) for n in range(1, side.ranks) if not side.ranks % n and not side.size % (n * block)
    ]
    fewer = f"cut them over {' or '.join(fits)} ranks" if fits else "take another format"
    whole = "keep experts whole (a larger ep)"
    if side.what != "experts":
        whole = "keep sequences whole (attention_dp)"
    remedy = f"{whole} or {fewer}"
    return (
        f"{weights} weights come in blocks of {block}: {side.ranks} ranks would get {share:g} each "
        f"of the {side.size} columns of the {side.what} of {model}, which is not whole blocks; "
        f"{remedy}"
    )


def _sides(plan: Plan, model: Model, layer: Layer) -> Iterator[Side]:
    """What of one layer is cut, and over how many ranks."""
    local = int(plan.tp // plan.attention_dp)
    if isinstance(layer.ffn, MoE):
        yield Side("experts", layer.ffn.width, int(plan.tp // plan.ep))
    if model.native_dense_weights is not None and plan.weights in ("", model.native_weights):
        return  # all but the experts is kept in a format of its own
    for part in (layer.ffn, layer.mixer):
        sides = _CUT.get(type(part))
        if sides is not None:
            for what, size in sides(part):
                yield Side(what, size, min(local, _most(part, what)))


def _most(part: Any, what: str) -> int:
    """Ranks beyond which copies are held instead of smaller shares."""
    return int(part.kv_heads) if what == "keys and values" else 1 << 30


def _attention(part: Attention) -> Iterator[tuple[str, int]]:
    yield "queries", part.heads * part.head_dim
    yield "keys and values", part.kv_heads * part.head_dim


def _latent(part: MLA) -> Iterator[tuple[str, int]]:
    yield "queries", part.heads * (part.nope_dim + part.rope_dim)
    yield "attention's output", part.heads * part.v_dim


def _delta(part: GatedDelta) -> Iterator[tuple[str, int]]:
    yield "linear attention's keys", part.key_heads * part.key_dim
    yield "linear attention's values", part.value_heads * part.value_dim


def _dense(part: DenseFFN) -> Iterator[tuple[str, int]]:
    yield "feed-forward layer", part.width


def _shared(part: MoE) -> Iterator[tuple[str, int]]:
    if part.shared_width:
        yield "shared experts", part.shared_width


_CUT: dict[type, Callable[[Any], Iterator[tuple[str, int]]]] = {
    Attention: _attention,
    MLA: _latent,
    GatedDelta: _delta,
    DenseFFN: _dense,
    MoE: _shared,
}
