"""How a measurement of a transformers model is named: its scenario and its configuration."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from analyzer.records import Scenario
from profilers import estimates
from profilers.cases import Machine
from profilers.environment import package_versions
from profilers.model_shapes import DEFAULT_MODELS, find_config
from profilers.options import Options


def models(options: Options, machine: Machine) -> Iterator[tuple[str, dict[str, Any]]]:
    """(name, configuration) of the models that the user chose, or of those that suit the size."""
    for reference in options.models or DEFAULT_MODELS[estimates.size_of(options, machine)]:
        yield find_config(reference)


def model_scenario(
    name: str, dtype: str, batch: int, prompt: int, output: int | None = None
) -> Scenario:
    """A static batch of equal prompts on one device."""
    return Scenario(
        model=name,
        engine="transformers",
        engine_version=package_versions().get("transformers", ""),
        gpus=1,
        tp=1,
        weight_precision=dtype,
        kv_precision=dtype,
        concurrency=batch,
        input_tokens=prompt,
        output_tokens=output,
    )


def config_text(config: dict[str, Any]) -> str:
    """A configuration as a case carries it, so that a record alone says what was built."""
    return json.dumps(config, sort_keys=True, separators=(",", ":"))
