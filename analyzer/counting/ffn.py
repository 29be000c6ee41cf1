"""Dense feed-forward layers, gated and plain."""

from __future__ import annotations

from analyzer.counting.elementwise import GATED, apply, plain
from analyzer.counting.linear import linear
from analyzer.counting.work import Work
from analyzer.model import DenseFFN
from analyzer.optable import Number, Op


def dense(work: Work, ffn: DenseFFN) -> list[Op]:
    """Up (and gate), activation, down; the partial sums are added up by the layer."""
    return feed_forward(work, "ffn", ffn.width, ffn.gated, ffn.bias, ffn.activation_kernels)


def feed_forward(
    work: Work, prefix: str, width: Number, gated: bool, bias: bool = False, kernels: int = 1
) -> list[Op]:
    """A feed-forward network of `width`, cut over the local ranks."""
    columns = width / work.local
    merged = columns * 2.0 if gated else columns
    hidden = float(work.hidden)
    return [
        linear(
            work,
            f"{prefix}.up",
            hidden,
            merged,
            bias=merged if bias else 0.0,
            pieces=2.0 if gated else 1.0,
        ),
        apply(work, f"{prefix}.act", GATED if gated else plain(kernels), work.tokens * columns),
        linear(work, f"{prefix}.down", columns, hidden, bias=hidden if bias else 0.0),
    ]
