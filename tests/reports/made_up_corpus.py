"""A small corpus with a known truth."""

from __future__ import annotations

import numpy as np

from analyzer.records import Provenance, Record, Scenario
from analyzer.records_arrival import Arrival
from analyzer.timing.rates import Rates
from calibration.collect import collect
from calibration.problem import predict

MODELS = ("llama-2-7b", "llama-3-8b", "mistral-7b-v0.1", "qwen2-7b")
SYSTEMS = ("A100-SXM-80GB", "H100-SXM")
TRUTH = {"A100-SXM-80GB": 0.5, "H100-SXM": 0.42}
NOISE = 0.03


def record(system: str, model: str, batch: float, tokens: float, times: tuple[float, ...]):
    names = ("ttft_s", "tpot_s", "e2e_s")
    return Record(
        kind="e2e",
        metrics=dict(zip(names, times, strict=True)),
        provenance=Provenance(source="made_up", date="2024-06", place=f"{model} {batch} {tokens}"),
        scenario=Scenario(
            hardware=system,
            gpus=1,
            tp=1,
            model=model,
            engine="vLLM",
            engine_version="0.4.2",
            weight_precision="bf16",
            concurrency=batch,
            arrival=Arrival(kind="static"),
            input_tokens=tokens,
            output_tokens=tokens,
        ),
    )


def made_up() -> list[Record]:
    """Rows whose times are those of one efficiency per system, with a little noise."""
    rng = np.random.default_rng(7)
    asked = [
        record(system, model, batch, tokens, (100.0, 100.0, 1000.0))
        for system in SYSTEMS
        for model in MODELS
        for batch in (1.0, 8.0, 16.0)
        for tokens in (128.0, 512.0, 1024.0)
    ]
    measured = []
    for system, group in ((key[0], g) for key, g in collect(asked).groups.items()):
        times = predict(group.problem, Rates.single(TRUTH[system]))
        times = times * np.exp(rng.normal(0, NOISE, times.shape))
        for row, each in zip(group.records, times, strict=True):
            scenario = row.scenario
            measured.append(
                record(
                    system,
                    scenario.model,
                    scenario.concurrency,
                    scenario.input_tokens,
                    tuple(each.tolist()),
                )
            )
    return measured
