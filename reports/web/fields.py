"""The fields that pages share, with the bounds within which they are read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from analyzer.calibrated import POOLED, calibrations
from analyzer.engines import ENGINES
from analyzer.models_catalog import names, resolve
from analyzer.precision import FORMATS
from analyzer.systems_catalog import system_names
from reports.web.state import Choice, Field, Whole

MODEL_DEFAULT, SYSTEM_DEFAULT = "llama-3-8b", "H100-SXM"
AUTO = "auto"
LONGEST_NAME = 100
RANKS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 36, 40, 48, 64, 72, 96, 128, 256)
ARRIVALS = {"static": "all at once", "closed_loop": "that many in flight at all times"}
BASES = {
    "calibrated": "calibrated: fitted to measurements",
    "uncalibrated": "uncalibrated: 0.6 of every peak",
    "ideal": "ideal: the speed of light",
}


@cache
def models() -> tuple[str, ...]:
    """The catalog's models."""
    return tuple(names())


@cache
def systems() -> tuple[str, ...]:
    """The catalog's systems."""
    return system_names()


@cache
def measured_systems() -> frozenset[str]:
    """Systems with a calibration of their own."""
    return frozenset(system for system, _ in calibrations() if not system.startswith(POOLED))


@cache
def engines() -> tuple[str, ...]:
    """Families of engines; '' leaves the choice to the calibration."""
    return (
        "",
        *dict.fromkeys(entry.family for entry in ENGINES.values() if entry.name != "unstated"),
    )


def formats() -> tuple[str, ...]:
    """Number formats; '' is what the model comes in."""
    return ("", *FORMATS)


def ranks() -> tuple[str, ...]:
    """Degrees of tensor parallelism that a page offers."""
    return (AUTO, *map(str, RANKS))


def _system_shown(name: str) -> str:
    return name if name in measured_systems() else f"{name} (not measured)"


def named(default: str) -> Choice:
    """A model: one of the catalog's, or a hub id or other spelling of one."""
    return Choice("model", "Model", default, models, also=_spelled)


def _spelled(text: str) -> bool:
    return len(text) <= LONGEST_NAME and text.isprintable() and resolve(text) is not None


MODEL = named(MODEL_DEFAULT)
SYSTEM = Choice("system", "System", SYSTEM_DEFAULT, systems, shown=_system_shown)
BATCH = Whole("batch", "Batch, sequences", 8, 1, 65_536)
INPUT = Whole("input", "Prompt, tokens", 1024, 1, 4_000_000)
OUTPUT = Whole("output", "Answer, tokens", 256, 1, 1_000_000)
ARRIVAL = Choice(
    "arrival", "They come", "static", lambda: tuple(ARRIVALS), shown=ARRIVALS.__getitem__
)
TP = Choice(
    "tp",
    "Tensor parallelism, ranks",
    AUTO,
    ranks,
    "Devices that share every layer. auto: the fewest on which the whole batch fits.",
)
PP = Whole("pp", "Pipeline stages", 1, 1, 256)
DP = Whole("dp", "Replicas", 1, 1, 4096)
EP = Whole("ep", "Expert-parallel ranks", 1, 1, 1024, "Among the tensor-parallel ranks.")
WEIGHTS = Choice("weights", "Weights", "", formats, shown=lambda name: name or "as released")
KV = Choice("kv", "Cache", "", formats, shown=lambda name: name or "as the engine does")
ENGINE = Choice("engine", "Engine", "", engines, shown=lambda name: name or "the best measured one")
BASIS = Choice("basis", "Rates", "calibrated", lambda: tuple(BASES), shown=BASES.__getitem__)

LOAD: Sequence[Field] = (BATCH, INPUT, OUTPUT, ARRIVAL)
LAYOUT: Sequence[Field] = (TP, PP, DP, EP)
SOFTWARE: Sequence[Field] = (WEIGHTS, KV, ENGINE, BASIS)
