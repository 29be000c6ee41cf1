"""The only place that writes to the terminal: tables for people, one line of JSON for programs."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import numpy as np

_FILE_WIDTH = 132


def write(text: str = "") -> None:
    """One or more lines to standard output."""
    sys.stdout.write(f"{text}\n")


def complain(text: str) -> None:
    """One line to standard error, whatever the text holds."""
    sys.stderr.write(f"{' '.join(text.split())}\n")


def write_json(document: Any) -> None:
    """One JSON document on one line."""
    write(json.dumps(plain(document), ensure_ascii=False, allow_nan=False))


def show(*renderables: Any) -> None:
    """Tables and text of the `rich` package, as wide as the terminal or a file's usual line."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else _FILE_WIDTH
    console = Console(highlight=False, width=width)
    for renderable in renderables:
        console.print(renderable)


def plain(value: Any) -> Any:
    """`value` with NumPy's numbers as Python's, and null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
