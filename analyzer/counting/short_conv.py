"""Gated short convolution (LFM2): project to three streams, multiply, filter, multiply, project."""

from __future__ import annotations

from analyzer.counting.linear import linear
from analyzer.counting.recurrence import convolution
from analyzer.counting.work import Work
from analyzer.model import ShortConv
from analyzer.optable import Op


def short_conv(work: Work, kind: ShortConv) -> list[Op]:
    """The whole mixer; both products with the gates ride in the filter's kernel."""
    width, hidden = kind.width / work.local, float(work.hidden)
    filtered = convolution(work, "short_conv", width, float(kind.conv), kind.bias)
    streams = 2.0 * work.tokens * width
    return [
        linear(work, "short_conv.in", hidden, 3.0 * width, bias=3.0 * width * kind.bias),
        filtered._replace(
            flops=filtered.flops + streams, act_B=filtered.act_B + streams * work.act_B
        ),
        linear(work, "short_conv.out", width, hidden, bias=hidden * kind.bias),
    ]
