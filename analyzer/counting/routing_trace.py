"""Which experts tokens were seen to visit: a trace in place of a law.

A trace is a CSV of `expert,tokens` (and `layer`, where it has several): how many tokens visited
each expert. Experts lie on ranks in blocks of consecutive numbers, as engines place them.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError, DataError
from analyzer.model import Model, MoE

Array = NDArray[np.float64]


class Routing(NamedTuple):
    """Per traced layer, each expert's share of the visits; in the experts' order."""

    shares: tuple[tuple[float, ...], ...]

    @property
    def experts(self) -> int:
        """How many each layer has."""
        return len(self.shares[0])

    def chances(self, top_k: int) -> Array:
        """Probability that a token visits each expert, shape (layers, experts)."""
        return np.minimum(top_k * np.asarray(self.shares, dtype=np.float64), 1.0)


def read_routing(path: str | Path, model: Model) -> Routing:
    """A trace for this model; a DataError that names file, row and column where it is wrong."""
    from analyzer.strict_csv import TableSource, read_csv_rows  # seldom asked for

    sizes = {layer.ffn.experts for layer in model.layers if isinstance(layer.ffn, MoE)}
    if len(sizes) != 1:
        has = "no experts" if not sizes else "layers of different numbers of experts"
        raise ConfigError(f"{path}: {model.name} has {has}; a routing trace says nothing about it")
    (experts,) = sizes
    visits: dict[str, Array] = defaultdict(lambda: np.zeros(experts))
    for line_no, row in read_csv_rows(path, required=("expert", "tokens")):
        at = TableSource(path=str(path), line_no=line_no)
        expert = int(at.number("expert", row["expert"], least=0.0, whole=True))
        if expert >= experts:
            raise at.error("expert", f"{model.name} has experts 0 to {experts - 1}, not {expert}")
        tokens = at.number("tokens", row["tokens"], least=0.0)
        visits[row.get("layer", "")][expert] += tokens
    for layer, counts in visits.items():
        if counts.sum() <= 0:
            raise DataError(f"{path}: layer {layer!r} was visited by no tokens")
    return Routing(tuple(tuple((counts / counts.sum()).tolist()) for counts in visits.values()))
