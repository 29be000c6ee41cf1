"""What could be measured on a system: a grid that fits its memory, as scenarios and as cases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np

from analyzer.calibrated import Calibration
from analyzer.errors import CapacityError, ConfigError, InputError
from analyzer.records import Scenario
from analyzer.records_arrival import FIXED_BATCHES, Arrival
from analyzer.resolve import question
from analyzer.system import System
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from calibration.collect import case_of
from calibration.parameters import Prior, to_rates
from calibration.problem import Case, Problem, build, predict

BATCHES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
INPUTS = (128, 512, 1024, 2048, 4096, 8192)
OUTPUTS = (128, 512, 1024)
RANKS = (1, 2, 4, 8)
LONGEST_S = 300.0
"""A measurement that takes longer teaches little for its price."""
COLUMNS = (
    "hardware",
    "gpus",
    "tp",
    "pp",
    "ep",
    "model",
    "engine",
    "weight_precision",
    "kv_precision",
    "batch_or_concurrency",
    "arrival",
    "input_tokens",
    "output_tokens",
    "ttft_ms",
    "tpot_ms",
    "e2e_ms",
)
"""Columns of a plan; the last three wait for what is measured."""
_WORDS = {"closed_loop": "closed-loop concurrency", "static": "static batch"}


class Candidates(NamedTuple):
    """Scenarios that fit, and the same counted."""

    scenarios: tuple[Scenario, ...]
    problem: Problem


def arrival_of(found: Calibration | None) -> str:
    """How a system's engine is usually measured: under a closed loop, or in static batches."""
    seen = found.hull.arrivals if found is not None and found.hull is not None else ()
    return "static" if not seen or set(seen) & FIXED_BATCHES else "closed_loop"


def candidates(
    system: System,
    reference: str,
    engine: str,
    models: Sequence[str],
    weights: str = "",
    arrival: str = "static",
    devices: int | None = None,
) -> Candidates:
    """All of the grid that fits; `reference` is what the system is called in records."""
    most = system.devices_per_node if devices is None else devices
    if most < 1:
        raise ConfigError(f"devices must be at least 1, not {most}")
    scenarios: list[Scenario] = []
    cases: list[Case] = []
    refused: InputError | None = None
    for scenario in _grid(reference, engine, models, weights, arrival, most):
        try:
            cases.append(case_of(question(scenario), (np.nan, np.nan, np.nan)))
        except InputError as error:
            refused = error
            continue
        scenarios.append(scenario)
    if not scenarios:
        raise CapacityError(f"nothing of the grid can run on {system.name}: {refused}")
    return Candidates(tuple(scenarios), build(cases, machine(system)))


def _grid(
    reference: str, engine: str, models: Iterable[str], weights: str, arrival: str, most: int
) -> Iterator[Scenario]:
    kind = Arrival(kind="closed_loop" if arrival == "closed_loop" else "static")
    ranks = [tp for tp in RANKS if tp <= most]
    for model, tp, batch, prompt, output in product(models, ranks, BATCHES, INPUTS, OUTPUTS):
        yield Scenario(
            hardware=reference,
            gpus=tp,
            tp=tp,
            model=model,
            engine=engine,
            weight_precision=weights,
            concurrency=batch,
            arrival=kind,
            input_tokens=prompt,
            output_tokens=output,
        )


def affordable(offered: Candidates, priors: Sequence[Prior]) -> Candidates:
    """Those that are expected to take no more than LONGEST_S each; all where none is."""
    point = np.array([entry.centre for entry in priors])
    e2e_s = predict(offered.problem, to_rates(priors, point, Rates.default()))[:, 2]
    kept = np.flatnonzero(e2e_s <= LONGEST_S)
    if not len(kept):
        return offered
    cases = [offered.problem.cases[index] for index in kept]
    scenarios = tuple(offered.scenarios[index] for index in kept)
    return Candidates(scenarios, build(cases, offered.problem.machine))


def plan_rows(chosen: Iterable[Scenario]) -> list[dict[str, str]]:
    """Chosen scenarios as rows of a plan, times left empty."""
    rows = []
    for scenario in chosen:
        kind = scenario.arrival.kind if scenario.arrival is not None else "static"
        known = {
            "hardware": scenario.hardware,
            "gpus": scenario.gpus,
            "tp": scenario.tp,
            "model": scenario.model,
            "engine": scenario.engine,
            "weight_precision": scenario.weight_precision,
            "batch_or_concurrency": scenario.concurrency,
            "arrival": _WORDS[kind],
            "input_tokens": scenario.input_tokens,
            "output_tokens": scenario.output_tokens,
        }
        rows.append({name: _cell(known.get(name)) for name in COLUMNS})
    return rows


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
