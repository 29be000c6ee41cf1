"""Figures as SVG text: one style, and the same bytes for the same numbers."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

PALETTE = ("#2b6cb0", "#c05621", "#2f855a", "#805ad5", "#b83280", "#718096")
INK, FAINT = "#1a202c", "#cbd5e0"
STYLE: Any = {
    "svg.hashsalt": "plumbline",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "sans-serif"],
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#4a5568",
    "axes.labelcolor": INK,
    "axes.prop_cycle": None,
    "grid.color": "#e2e8f0",
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "path.simplify": True,
}


@contextmanager
def drawing() -> Iterator[Any]:
    """matplotlib without a screen and with this style; raises ImportError where it is missing."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from cycler import cycler

    settings = {**STYLE, "axes.prop_cycle": cycler(color=list(PALETTE))}
    with plt.rc_context(settings):
        try:
            yield plt
        finally:
            plt.close("all")


def svg(figure: Figure) -> str:
    """The figure as SVG, without dates."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": "plumbline"})
    lines = [_LONG.sub(_shorter, line.strip()) for line in stream.getvalue().splitlines()]
    return "\n".join(_grouped(lines)) + "\n"


_MARKER = re.compile(r'(<use xlink:href="[^"]+" x="[^"]+" y="[^"]+") style="([^"]+)"/>')


def _grouped(lines: list[str]) -> Iterator[str]:
    """Markers of one style in a row say it once, around them."""
    open_style = ""
    for line in lines:
        match = _MARKER.fullmatch(line)
        style = match.group(2) if match else ""
        if open_style and style != open_style:
            yield "</g>"
        if style and style != open_style:
            yield f'<g style="{style}">'
        open_style = style
        yield f"{match.group(1)}/>" if match else line


_LONG = re.compile(r"(?<=[ \"(,])-?\d+\.\d{3,}(?=[ \"),]|$)")
"""Coordinates with more digits than anybody can see."""


def _shorter(match: re.Match[str]) -> str:
    return f"{float(match.group()):.2f}"


def thinned(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` of `count` indices, spread evenly and the same every time."""
    if count <= most:
        return np.arange(count)
    return np.unique(np.linspace(0, count - 1, most).round().astype(np.intp))


def bands(axes: Axes, low: float, high: float) -> None:
    """The diagonal of a log-log plot, with ±10 % and ±20 % around it."""
    ends = np.array([low, high])
    axes.fill_between(ends, ends / 1.2, ends * 1.2, color="#edf2f7", lw=0, zorder=0)
    axes.fill_between(ends, ends / 1.1, ends * 1.1, color="#dbe4ee", lw=0, zorder=0)
    axes.plot(ends, ends, color="#4a5568", lw=0.8, zorder=1)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    axes.set_ylim(low, high)
    axes.set_aspect("equal")


def plain_ticks(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of ratios with ticks that people read at a glance."""
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    shown = [tick for tick in RATIO_TICKS if low <= tick <= high]
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()


RATIO_TICKS = (0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0)


def limits(values: Array) -> tuple[float, float]:
    """A little more than what the values span."""
    return float(np.min(values) / 1.3), float(np.max(values) * 1.3)
