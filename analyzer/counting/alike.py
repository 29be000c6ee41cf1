"""Like layers found once per model: what a stack of layers consists of does not depend on a step.

Hashing eighty layers takes longer than counting the one or two kinds among them, so answers are
remembered by the identity of the tuple that holds the layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

from analyzer.model import Kind, Layer, Model

T = TypeVar("T")
Times = tuple[tuple[T, int], ...]


class Same:
    """A key that equals only keys of the very same object."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.value is other.value


def layers_of(model: Model, layers: slice | None) -> Times[Layer]:
    """Distinct layers of a stage and how often each occurs."""
    return _distinct_layers(Same(model.layers), *_ends(layers))


def mixers_of(model: Model, layers: slice | None) -> Times[Kind]:
    """Distinct mixers of a stage and how often each occurs."""
    return _distinct_mixers(Same(model.layers), *_ends(layers))


def stored_of(model: Model, layers: slice | None) -> Times[Layer]:
    """Layers of a stage with weights of their own, see `stored`."""
    return _stored(Same(model.layers), *_ends(layers))


def of_stages(model: Model, cuts: Sequence[slice], make: Callable[[int, slice], T]) -> list[T]:
    """What `make` gives of every pipeline stage, asked once of stages that are alike.

    Stages are alike where they hold like layers in like order and both or neither are at an end.
    """
    bounds = tuple((cut.start, cut.stop) for cut in cuts)
    made: dict[int, T] = {}
    for index, first in enumerate(_first_alike(Same(model.layers), bounds)):
        made[index] = made[first] if first != index else make(index, cuts[index])
    return list(made.values())


@lru_cache(maxsize=1024)
def _first_alike(key: Same, bounds: tuple[tuple[int, int], ...]) -> tuple[int, ...]:
    """For each stage the first one that is like it."""
    seen: dict[tuple[bool, bool, tuple[Layer, ...]], int] = {}
    last = len(bounds) - 1
    return tuple(
        seen.setdefault((index == 0, index == last, key.value[start:stop]), index)
        for index, (start, stop) in enumerate(bounds)
    )


def _ends(layers: slice | None) -> tuple[int | None, int | None]:
    return (None, None) if layers is None else (layers.start, layers.stop)


@lru_cache(maxsize=1024)
def _distinct_layers(key: Same, start: int | None, stop: int | None) -> Times[Layer]:
    return counted(key.value[start:stop])


@lru_cache(maxsize=1024)
def _distinct_mixers(key: Same, start: int | None, stop: int | None) -> Times[Kind]:
    found = [
        mixer
        for layer in key.value[start:stop]
        for mixer in (layer.mixer, layer.beside)
        if mixer is not None
    ]
    return tuple(Counter(found).items())


@lru_cache(maxsize=1024)
def _stored(key: Same, start: int | None, stop: int | None) -> Times[Layer]:
    return stored(key.value[start:stop])


def counted(layers: tuple[Layer, ...]) -> Times[Layer]:
    """Distinct layers and how often each occurs; identity first, since most are one object."""
    by_identity = {id(layer): layer for layer in layers}
    times = Counter(map(id, layers))
    groups: dict[Layer, int] = {}
    for key, layer in by_identity.items():
        groups[layer] = groups.get(layer, 0) + times[key]
    return tuple(groups.items())


def stored(layers: tuple[Layer, ...]) -> Times[Layer]:
    """Layers with weights of their own; of shared ones a copy each where the owner is elsewhere."""
    owned: dict[Layer, int] = {}
    shared: dict[Layer, int] = {}
    for layer, times in counted(layers):
        if layer.weights_shared:
            shared[_owner(layer)] = 1
        else:
            owned[layer] = times
    held = {_owner(layer) for layer in owned}
    return (*owned.items(), *((layer, 1) for layer in shared if layer not in held))


def _owner(layer: Layer) -> Layer:
    """The layer as far as its weights may be shared."""
    return Layer(
        mixer=layer.mixer,
        ffn=layer.ffn,
        norms=layer.norms,
        norm_params=layer.norm_params,
        parallel=layer.parallel,
        extra_params=layer.extra_params,
        beside=layer.beside,
    )
