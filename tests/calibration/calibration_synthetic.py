"""Measurements with known rates: cases on a catalog system, their times predicted and blurred."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import msgspec
import numpy as np

from analyzer.records import Provenance, Record, Scenario
from analyzer.records_arrival import Arrival
from analyzer.resolve import question
from analyzer.systems_catalog import load_system
from analyzer.timing.machine import machine
from analyzer.timing.rates import Rates
from calibration.collect import Collected, Group, case_of, collect
from calibration.problem import METRICS, Problem, build, predict

TRUTH = Rates.default().with_values(
    gemm_eff_16=0.71, gemm_half=30.0, attention_eff=0.4, attention_half=150.0, mem_eff=0.82,
    kv_eff=0.7, kv_splits=16.0, gqa_exponent=0.2, query_cost=3.0, vector_eff=0.55, sharpness=3.0,
    launch_s=2.5e-6, step_s=1.2e-3, sequence_s=2e-5, prefill_s=4e-3, collective_s=1e-5,
    link_eff=0.7,
)  # fmt: skip
MODELS = ("llama-2-7b", "llama-3-8b", "mistral-7b", "qwen2.5-1.5b", "llama-3.2-3b")


def scenarios(
    system: str,
    models: Sequence[str] = MODELS,
    batches: Sequence[int] = (1, 8, 32),
    inputs: Sequence[int] = (128, 1024, 3072),
    tps: Sequence[int] = (1, 2),
) -> list[Scenario]:
    """A grid of static batches."""
    return [
        Scenario(
            hardware=system,
            gpus=tp,
            tp=tp,
            model=model,
            engine="vllm 0.10",  # whose host works in series with the device
            weight_precision="fp16",
            concurrency=batch,
            arrival=Arrival(kind="static"),
            input_tokens=prompt,
            output_tokens=128,
        )
        for model, tp, batch, prompt in product(models, tps, batches, inputs)
    ]


def blurred(times: np.ndarray, noise: float, seed: int, outliers: float = 0.0) -> np.ndarray:
    """Times with normal noise in ln, and some of them threefold too slow or too fast."""
    rng = np.random.default_rng(seed)
    wild = rng.random(times.shape) < outliers
    factor = np.exp(noise * rng.standard_normal(times.shape))
    return times * factor * np.where(wild, rng.choice([1 / 3, 3.0], times.shape), 1.0)


def measured(
    asked: Sequence[Scenario], truth: Rates = TRUTH, noise: float = 0.02, seed: int = 0,
    outliers: float = 0.0,
) -> Problem:  # fmt: skip
    """Scenarios as a problem whose observed times follow from `truth`."""
    empty = (np.nan, np.nan, np.nan)
    cases = [case_of(question(scenario), empty, "synthetic") for scenario in asked]
    on = machine(load_system(asked[0].hardware))
    times = blurred(predict(build(cases, on), truth), noise, seed, outliers)
    seen = [
        case._replace(observed=(float(row[0]), float(row[1]), float(row[2])))
        for case, row in zip(cases, times, strict=True)
    ]
    return build(seen, on)


def records(asked: Sequence[Scenario], noise: float = 0.02, seed: int = 0) -> list[Record]:
    """The same as records."""
    problem = measured(asked, noise=noise, seed=seed)
    return [
        Record(
            kind="e2e",
            scenario=scenario,
            metrics={name: float(x) for name, x in zip(METRICS, row, strict=True)},
            provenance=Provenance(source="synthetic", place=f"row {place}", date="2024-01"),
        )
        for place, (scenario, row) in enumerate(zip(asked, problem.observed, strict=True))
    ]


def one_group(system: str, **choice: Sequence[int] | Sequence[str]) -> tuple[Collected, Group]:
    """The only group of synthetic records of one system."""
    found = collect(records(scenarios(system, **choice)))  # type: ignore[arg-type]
    (group,) = found.groups.values()
    return found, group


def with_metrics(record: Record, **metrics: float) -> Record:
    """The record with some figures changed."""
    return msgspec.structs.replace(record, metrics={**record.metrics, **metrics})
