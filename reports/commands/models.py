"""The models of the catalog: parameters, layers, context.

plumbline models            all of them
plumbline models qwen3      those whose name or hub id holds the word
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from analyzer.errors import ConfigError, nearest
from analyzer.models_catalog import entry, load, names
from analyzer.predict import sizes
from reports.console import show, write_json


def declare(parser: ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("word", nargs="?", default="", help="part of a name or a hub id")
    parser.add_argument("--json", action="store_true", help="one JSON document on one line")


def run(options: Namespace) -> None:
    """List models."""
    word = options.word.lower()
    found = [_facts(name) for name in names() if word in f"{name} {entry(name).hub_id}".lower()]
    if not found:
        raise ConfigError(f"no model is called anything like {word!r}{nearest(word, names())}")
    if options.json:
        write_json(found)
        return
    from reports.table import table

    columns = ("model", "hub id", "parameters", "active", "layers", "context", "weights")
    show(table(columns, [_row(facts) for facts in found], left=("model", "hub id", "weights")))


def _facts(name: str) -> dict[str, Any]:
    model = load(name)
    total, active = sizes(model)
    return {
        "model": name,
        "hub_id": entry(name).hub_id,
        "params": total,
        "params_active": active,
        "layers": len(model.layers),
        "max_context": model.max_context,
        "weights": model.native_weights,
    }


def _row(facts: dict[str, Any]) -> list[str]:
    total, active, context = facts["params"], facts["params_active"], facts["max_context"]
    return [
        facts["model"],
        facts["hub_id"],
        f"{total / 1e9:.4g} B",
        "" if active == total else f"{active / 1e9:.4g} B",
        str(facts["layers"]),
        "" if context is None else str(context),
        facts["weights"],
    ]
