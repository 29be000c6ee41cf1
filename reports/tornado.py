"""The tornado of a sensitivity analysis as SVG."""

from __future__ import annotations

from analyzer.errors import ConfigError
from analyzer.sensitivity import Sensitivity
from reports.files import replacing
from reports.plots import INK, PALETTE, drawing, svg


def write_tornado(found: Sensitivity, metric: str, top: int, path: str) -> None:
    """Draw it into a file."""
    try:
        text = tornado_svg(found, metric, top)
    except ImportError:
        raise ConfigError("drawing needs matplotlib: pip install 'plumbline[plots]'") from None
    with replacing(path) as stream:
        stream.write(text)


def tornado_svg(found: Sensitivity, metric: str, top: int = 12) -> str:
    """Changes of a metric in percent, the widest on top."""
    listed = found.tornado(metric)[:top][::-1]
    with drawing() as plt:
        height = 1.2 + 0.28 * max(len(listed), 1)
        figure, axes = plt.subplots(figsize=(7.5, height), layout="constrained")
        places = range(len(listed))
        for ends, colour, sign in (
            ([100 * e.at_low[metric] for e in listed], PALETTE[0], "-"),
            ([100 * e.at_high[metric] for e in listed], PALETTE[1], "+"),
        ):
            axes.barh(places, ends, height=0.7, color=colour, label=f"{sign}{found.spread:.0%}")
        axes.axvline(0.0, color=INK, lw=0.8)
        names = [e.name.replace("_", " ") if e.kind == "figure" else e.name for e in listed]
        axes.set_yticks(places, names)
        axes.set_xlabel(f"change of {metric}, percent")
        base = found.base
        axes.set_title(f"{base.model.name} on {base.system.name}: what moves {metric}")
        axes.grid(axis="y", visible=False)
        axes.legend(loc="lower right", title="figure or rate")
        return svg(figure)
