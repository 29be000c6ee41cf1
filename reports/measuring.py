"""Lets the source `measured` measure: this machine, and no other, through the profilers."""

from __future__ import annotations

from pathlib import Path

from analyzer.errors import ConfigError, InputError
from analyzer.sources.measured import register_measurer
from analyzer.system import System


def offer(system: System, spec: str) -> None:
    """Register a measurer for `system`, which must be the machine that this runs on."""
    from analyzer.detect import detect_system
    from profilers.here import Here

    try:
        here = detect_system().system
    except InputError as error:
        raise ConfigError(f"measured: this machine is not recognised ({error})") from None
    if here.device.name != system.device.name:
        raise ConfigError(
            f"measured: this machine is {here.device.name}, asked is {system.device.name}; "
            f"use --system auto, or another source"
        )
    rungs = [rung.strip() for rung in spec.split(",")]
    stores = [rung.partition(":")[2] for rung in rungs if rung.startswith("measured:")]
    register_measurer(Here(Path(stores[0]) if stores and stores[0] else None))
