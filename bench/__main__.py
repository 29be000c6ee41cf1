"""`python -m bench [--long] [--write]`: print the figures; keep them in docs/speed.md.

`--long` measures designs of ten million points as well; without it that section stays as it is.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import numpy as np

from bench.deciding import LARGE, a_design, a_search
from bench.measures import FIGURES, Figure
from bench.peers import genz
from reports.console import write
from reports.files import replacing

PAGE = Path(__file__).parent.parent / "docs" / "speed.md"
HEAD = """# Speed

Printed by `make bench`, kept by `python -m bench --write`. The best of several runs each, on the
wall and of the processor; no test asserts them. Taken with {machine}.

| what | wall | processor | asked |
|---|---|---|---|
"""
LARGE_TITLE = "\n## Large designs\n"
LARGE_HEAD = (
    LARGE_TITLE
    + """
From `python -m bench --long`: two models, six axes, a process of its own, one thread. Memory does
not grow with the number of points, so 10^8 take ten times as long as 10^7 and as much disk again
while pieces are joined. Taken with {machine}.

| what | wall | processor | asked |
|---|---|---|---|
"""
)


def main() -> None:
    """Measure, print, and write where asked."""
    figures = []
    for measure in (*FIGURES, a_search):
        figures.append(measure())
        write(_line(figures[-1]))
    peer = genz()
    if peer is None:
        write("genz-llm is not installed: no comparison")
    else:
        figures.append(peer)
        write(_line(peer))
    large = _large() if "--long" in sys.argv[1:] else _kept()
    if "--write" in sys.argv[1:]:
        with replacing(PAGE) as page:
            page.write(HEAD.format(machine=_machine()))
            page.writelines(f"{_line(figure)}\n" for figure in figures)
            page.write(large)


def _large() -> str:
    """The section of large designs, measured anew."""
    lines = []
    for points, ending in LARGE:
        lines.append(_line(a_design(points, ending)))
        write(lines[-1])
    return LARGE_HEAD.format(machine=_machine()) + "".join(f"{line}\n" for line in lines)


def _kept() -> str:
    """The section of large designs as it is."""
    text = PAGE.read_text("utf-8") if PAGE.exists() else ""
    start = text.find(LARGE_TITLE)
    return text[start:] if start >= 0 else ""


def _line(figure: Figure) -> str:
    return f"| {' | '.join(figure)} |"


def _machine() -> str:
    load = os.getloadavg()[0]
    return (
        f"Python {platform.python_version()}, NumPy {np.__version__}, one thread, on "
        f"{_processor()}, load {load:.1f} when it ended"
    )


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({os.cpu_count()} cores)" if names else platform.machine()


if __name__ == "__main__":
    main()
