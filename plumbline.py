"""Plumbline's front door: what a script needs in one import, and the command line.

    import plumbline as pl

    model, system = pl.load_model("llama-3-8b"), pl.load_system("H100-SXM")
    asked = pl.Workload(batch=8, input_tokens=1024, output_tokens=256)
    found = pl.answer(model, system, pl.Plan(tp=1), asked, pl.calibrated(system))
    print(found.prediction.ttft_s, found.interval("ttft_s"), found.warnings)

Every number may be a NumPy array: one call answers one scenario or a million.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analyzer.answer import Answer, answer
    from analyzer.basis import Basis, calibrated, given, ideal, single, uncalibrated
    from analyzer.errors import InputError, PlumblineError
    from analyzer.model import Model
    from analyzer.models_catalog import load as load_model
    from analyzer.plan import LoRA, Offload, Plan, Speculation
    from analyzer.predict import Prediction, predict
    from analyzer.system import System
    from analyzer.systems_catalog import load_system
    from analyzer.timing.rates import Rates
    from analyzer.workload import SLO, Workload

__all__ = [
    "SLO",
    "Answer",
    "Basis",
    "InputError",
    "LoRA",
    "Model",
    "Offload",
    "Plan",
    "PlumblineError",
    "Prediction",
    "Rates",
    "Speculation",
    "System",
    "Workload",
    "answer",
    "calibrated",
    "given",
    "ideal",
    "load_model",
    "load_system",
    "predict",
    "single",
    "uncalibrated",
]

_HOMES = {
    "analyzer.answer": ("Answer", "answer"),
    "analyzer.basis": ("Basis", "calibrated", "given", "ideal", "single", "uncalibrated"),
    "analyzer.errors": ("InputError", "PlumblineError"),
    "analyzer.model": ("Model",),
    "analyzer.plan": ("LoRA", "Offload", "Plan", "Speculation"),
    "analyzer.predict": ("Prediction", "predict"),
    "analyzer.system": ("System",),
    "analyzer.systems_catalog": ("load_system",),
    "analyzer.timing.rates": ("Rates",),
    "analyzer.workload": ("SLO", "Workload"),
}


def __getattr__(name: str) -> Any:
    if name == "load_model":
        return importlib.import_module("analyzer.models_catalog").load
    for home, held in _HOMES.items():
        if name in held:
            return getattr(importlib.import_module(home), name)
    raise AttributeError(f"module 'plumbline' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (2: the user's mistake, in one line)."""
    from reports.commands.shell import run

    return run(list(sys.argv[1:] if arguments is None else arguments))


def calibrate_main(arguments: Sequence[str] | None = None) -> int:
    """`calibrate ...` is `plumbline calibrate ...`."""
    return main(["calibrate", *(sys.argv[1:] if arguments is None else arguments)])


if __name__ == "__main__":
    raise SystemExit(main())
