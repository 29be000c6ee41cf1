"""Comparisons worked out beforehand: well-known models, systems and uses, at two batch sizes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from analyzer.answer import Answer
from analyzer.basis import BANDED_BY
from analyzer.use_cases import USE_CASES
from reports.web import compared
from reports.web.technologies import TECHNOLOGIES

MODELS = (
    "llama-3.2-3b", "llama-3.1-8b", "llama-3.1-70b", "llama-3.1-405b", "mistral-nemo-12b",
    "mixtral-8x7b", "qwen3-8b", "qwen3-32b", "qwen3-30b-a3b", "gpt-oss-120b", "deepseek-v3",
)  # fmt: skip
SYSTEMS = (
    "RTX3090", "RTX4090", "L40S", "A100-SXM-80GB", "H100-SXM", "H200-SXM", "B200-SXM-180GB",
    "MI300X", "Gaudi2", "TPUv5e",
)  # fmt: skip
BASE = "H100-SXM"
BATCHES = (1, 32)
METRICS = ("ttft_s", "tpot_s", "e2e_s", "decode_tok_s")
COLUMNS = (
    "model", "system", "part", "case", "batch", "devices", "rates", "memory_B", "usd",
    *(f"{metric}{end}" for metric in METRICS for end in ("", "_low", "_high")), "problem",
)  # fmt: skip


def comparison(
    models: tuple[str, ...] = MODELS, systems: tuple[str, ...] = SYSTEMS
) -> dict[str, Any]:
    """What static/site_compare.js draws from."""
    rows = [row for model in models for row in _of_model(model, systems)]
    return {
        "columns": COLUMNS,
        "rows": rows,
        "models": models,
        "systems": systems,
        "base": BASE,
        "batches": BATCHES,
        "cases": {
            name: {
                "title": name,
                "input_tokens": case.input_tokens,
                "output_tokens": case.output_tokens,
            }
            for name, case in USE_CASES.items()
        },
        "parts": {name: [part.title, part.source] for name, part in TECHNOLOGIES.items()},
    }


def _of_model(model: str, systems: tuple[str, ...]) -> Iterator[list[Any]]:
    for name, case in USE_CASES.items():
        for batch in BATCHES:
            values = {
                "model": model, "batch": batch, **compared.lengths(case), "system": BASE,
                "systems": systems, "technologies": tuple(TECHNOLOGIES), "stacks": 5,
            }  # fmt: skip
            place = (name, batch)
            for one, system in zip(
                compared.entries({**values, "by": "systems"}), systems, strict=True
            ):
                yield _row(model, system, "", place, one)
            parts = compared.entries({**values, "by": "technologies"})[1:]
            for one, part in zip(parts, TECHNOLOGIES, strict=True):
                yield _row(model, BASE, part, place, one)


def _row(
    model: str, system: str, part: str, place: tuple[str, int], one: compared.Entry
) -> list[Any]:
    found = one.answer
    if found is None:
        nothing = [None] * (len(COLUMNS) - 6)
        return [model, system, part, *place, *nothing, one.problem]
    usd = found.prediction.usd_per_million_tokens
    return [
        model, system, part, *place, int(found.plan.devices),
        found.basis.label.partition("@")[0],
        _short(found.prediction.memory.total_B),
        None if usd is None else _short(usd),
        *_figures(found, one.measured), "",
    ]  # fmt: skip


def _figures(found: Answer, measured: bool) -> Iterator[float | None]:
    for metric in METRICS:
        yield _short(getattr(found.prediction, metric))
        held = found.interval(metric) if measured and metric in BANDED_BY else None
        yield _short(held.low) if held else None
        yield _short(held.high) if held else None


def _short(value: Any) -> float:
    return float(f"{float(value):.4g}")
