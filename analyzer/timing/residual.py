"""A learnt correction on top of a kernel form, applied without the library that learnt it.

Boosted trees are a few arrays: features, thresholds, children, values. The correction is a factor
on seconds; where a shape lies outside of what was seen in training there is none, and `inside`
says so.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import DataError
from analyzer.timing.kernels.common import Array

_CHUNK = 16384


class Residual(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Boosted trees on log(measured / form), and the hull of their training data."""

    features: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    baseline: float
    roots: tuple[int, ...]
    feature: tuple[int, ...]
    """Per node; -1 marks a leaf."""
    threshold: tuple[float, ...]
    """A value up to this goes left."""
    left: tuple[int, ...]
    right: tuple[int, ...]
    value: tuple[float, ...]

    def __post_init__(self) -> None:
        nodes = len(self.feature)
        columns = (self.threshold, self.left, self.right, self.value)
        if any(len(column) != nodes for column in columns):
            raise DataError("residual: its columns differ in length; export it again")
        if len(self.low) != len(self.features) or len(self.high) != len(self.features):
            raise DataError("residual: the hull does not have one range per feature")


class Correction(NamedTuple):
    """A factor on seconds, 1 outside of the training data."""

    factor: Array
    inside: NDArray[np.bool_]


def correct(residual: Residual, features: Array) -> Correction:
    """The correction for shapes given as feature columns, shape (rows, features)."""
    slack = 1e-9
    low, high = np.asarray(residual.low) - slack, np.asarray(residual.high) + slack
    inside = np.all((features >= low) & (features <= high), axis=1)
    factor = np.ones(len(features))
    if inside.any():
        factor[inside] = np.exp(_evaluate(residual, features[inside]))
    return Correction(factor, inside)


def _evaluate(residual: Residual, features: Array) -> Array:
    nodes = _Nodes(
        np.asarray(residual.feature),
        np.asarray(residual.threshold),
        np.asarray(residual.left),
        np.asarray(residual.right),
        np.asarray(residual.value),
    )
    roots = np.asarray(residual.roots)
    parts = [
        residual.baseline + _leaves(nodes, roots, features[start : start + _CHUNK])
        for start in range(0, len(features), _CHUNK)
    ]
    return np.concatenate(parts)


class _Nodes(NamedTuple):
    feature: NDArray[np.int_]
    threshold: Array
    left: NDArray[np.int_]
    right: NDArray[np.int_]
    value: Array


def _leaves(nodes: _Nodes, roots: NDArray[np.int_], features: Array) -> Array:
    """Sum over trees of the leaf that each row falls into."""
    at = np.broadcast_to(roots[:, None], (len(roots), len(features))).copy()
    rows = np.arange(len(features))
    while True:
        tested = nodes.feature[at]
        inner = tested >= 0
        if not inner.any():
            break
        values = features[rows[None, :], np.maximum(tested, 0)]
        onward = np.where(values <= nodes.threshold[at], nodes.left[at], nodes.right[at])
        at = np.where(inner, onward, at)
    total: Array = nodes.value[at].sum(axis=0)
    return total
