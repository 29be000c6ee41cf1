"""What is asked of the model: how many sequences, how long, how many beams, under which promise."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from analyzer.errors import ConfigError


class SLO(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Promised latencies; None: not promised."""

    ttft_s: float | None = None
    tpot_s: float | None = None
    e2e_s: float | None = None


class Workload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A static batch: `batch` prompts of `input_tokens`, each answered by `output_tokens`.

    Numbers may be arrays of one shape. With `beams`, every prompt is decoded by that many beams
    that share the prompt's cache.
    """

    batch: Any = 1
    input_tokens: Any = 1024
    output_tokens: Any = 128
    beams: Any = 1
    cached_tokens: Any = 0
    """Leading prompt tokens whose cache is already there (prefix hit)."""
    slo: SLO | None = None


def check(workload: Workload) -> None:
    """Refuse what no machine can run."""
    for name in ("batch", "input_tokens", "output_tokens", "beams"):
        _at_least(name, getattr(workload, name), 1)
    _at_least("cached_tokens", workload.cached_tokens, 0)
    if np.any(np.asarray(workload.cached_tokens) >= np.asarray(workload.input_tokens)):
        raise ConfigError(
            "cached_tokens must be fewer than input_tokens: the last token is computed"
        )


def _at_least(name: str, value: Any, least: int) -> None:
    if type(value) is int and value >= least:
        return
    numbers = np.asarray(value)
    if numbers.dtype.kind not in "iuf":
        raise ConfigError(f"{name} must be a number, not {value!r}")
    if not np.all(np.isfinite(numbers)):
        raise ConfigError(f"{name} must be finite")
    if np.any(numbers < least):
        worst = numbers.min()
        raise ConfigError(f"{name} must be at least {least}, not {worst:g}")
