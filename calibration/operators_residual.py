"""Learn a residual on top of a kernel form, and turn it into plain arrays."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from analyzer.timing.kernels.common import Array
from analyzer.timing.residual import Correction, Residual, correct

LARGEST = 1.0
"""Log errors beyond this are outliers to the form and are not learnt in full."""


class Learnt(NamedTuple):
    """A residual that can be applied and exported."""

    residual: Residual

    def correct(self, features: Array) -> Correction:
        """The factor on seconds for these shapes."""
        return correct(self.residual, features)


def fit_residual(features: Array, log_off: Array, names: tuple[str, ...], seed: int = 0) -> Learnt:
    """Boost trees on log(measured / form)."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=300,
        learning_rate=0.07,
        max_leaf_nodes=12,
        min_samples_leaf=8,
        l2_regularization=1.0,
        max_features=0.5,
        random_state=seed,
    )
    model.fit(features, np.clip(log_off, -LARGEST, LARGEST))
    return Learnt(_flatten(model, features, names))


def _flatten(model: Any, features: Array, names: tuple[str, ...]) -> Residual:
    """All trees' nodes one after another; children by their place in the whole."""
    columns: dict[str, list[Any]] = {
        name: [] for name in ("feature", "threshold", "left", "right", "value")
    }
    roots = []
    for (tree,) in model._predictors:
        first = len(columns["feature"])
        roots.append(first)
        for node in tree.nodes:
            leaf = bool(node["is_leaf"])
            columns["feature"].append(-1 if leaf else int(node["feature_idx"]))
            columns["threshold"].append(0.0 if leaf else float(node["num_threshold"]))
            columns["left"].append(0 if leaf else first + int(node["left"]))
            columns["right"].append(0 if leaf else first + int(node["right"]))
            columns["value"].append(round(float(node["value"]), 9) if leaf else 0.0)
    return Residual(
        features=names,
        low=tuple(features.min(axis=0).tolist()),
        high=tuple(features.max(axis=0).tolist()),
        baseline=float(np.ravel(model._baseline_prediction)[0]),
        roots=tuple(roots),
        **{name: tuple(values) for name, values in columns.items()},
    )
