"""The Pareto front as SVG: tokens per second of a user against tokens per second of a device."""

from __future__ import annotations

import numpy as np

from analyzer.errors import ConfigError
from analyzer.search import Found
from reports.files import replacing
from reports.plots import FAINT, INK, PALETTE, drawing, svg, thinned
from reports.search_text import layout

MOST_DOTS = 4000


def write_front(found: Found, path: str) -> None:
    """Draw the front into a file."""
    try:
        text = front_svg(found)
    except ImportError:
        raise ConfigError("drawing needs matplotlib: pip install 'plumbline[plots]'") from None
    with replacing(path) as stream:
        stream.write(text)


def front_svg(found: Found) -> str:
    """All plans that fit, the front over each system, the promise, and the best."""
    with drawing() as plt:
        figure, axes = plt.subplots(figsize=(8.0, 5.0), layout="constrained")
        per_user, per_device = found.columns.tok_s_per_user, found.columns.tok_s_per_device
        shown = np.flatnonzero(np.isfinite(per_user) & np.isfinite(per_device))
        dots = shown[thinned(len(shown), MOST_DOTS)]
        axes.scatter(
            per_user[dots], per_device[dots], s=4, color=FAINT, lw=0, label="plans that fit"
        )
        for place, offer in enumerate(found.question.offers):
            own = found.front(place)
            colour = PALETTE[place % len(PALETTE)]
            name = offer.system.name
            axes.plot(per_user[own], per_device[own], "o-", ms=3, lw=1.2, color=colour,
                      label=f"front, {name}")  # fmt: skip
        _promise(found, axes)
        best = found.best()
        if best is not None:
            point = (per_user[best], per_device[best])
            axes.plot(*point, "*", ms=13, color=PALETTE[1], mec=INK, mew=0.5, zorder=5)
            axes.annotate(f"best: {layout(found.row(best))}", point, (8, 8),
                          textcoords="offset points", fontsize=8)  # fmt: skip
        axes.set_xlabel("tokens per second of one user (1 / TPOT)")
        axes.set_ylabel("output tokens per second and device")
        asked = found.question
        axes.set_title(
            f"{asked.model.name}, {asked.input_tokens} in, {asked.output_tokens} out, "
            f"{asked.arrival.replace('_', ' ')}"
        )
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper right")
        return svg(figure)


def _promise(found: Found, axes: object) -> None:
    promised = found.question.slo.tpot_s
    if promised is None:
        return
    axes.axvline(1.0 / promised, color=INK, lw=0.8, ls="--")  # type: ignore[attr-defined]
    axes.annotate(  # type: ignore[attr-defined]
        f"TPOT {1e3 * promised:g} ms", (1.0 / promised, 0.98), (4, -2),
        xycoords=("data", "axes fraction"), textcoords="offset points", fontsize=8, va="top",
    )  # fmt: skip
