"""`python -m bench [--write]`: print the figures; keep them in docs/speed.md."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import numpy as np

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


def main() -> None:
    """Measure, print, and write where asked."""
    figures = []
    for measure in FIGURES:
        figures.append(measure())
        write(_line(figures[-1]))
    peer = genz()
    if peer is None:
        write("genz-llm is not installed: no comparison")
    else:
        figures.append(peer)
        write(_line(peer))
    if "--write" in sys.argv[1:]:
        with replacing(PAGE) as page:
            page.write(HEAD.format(machine=_machine()))
            page.writelines(f"{_line(figure)}\n" for figure in figures)


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
