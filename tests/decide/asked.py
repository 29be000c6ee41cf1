"""Questions that several tests ask."""

from __future__ import annotations

from typing import Any

from analyzer import basis
from analyzer.models_catalog import load
from analyzer.search import Budget, Offer, Question, Space
from analyzer.systems_catalog import load_system
from analyzer.workload import SLO


def question(model: str = "llama-3-70b", system: str = "H100-SXM", **given: Any) -> Question:
    """A search at 60 % of every peak, so that no fit moves the expected answer."""
    usual: dict[str, Any] = {
        "model": load(model),
        "offers": (Offer(load_system(system), basis.uncalibrated()),),
        "input_tokens": 2000,
        "output_tokens": 200,
        "slo": SLO(ttft_s=2.0, tpot_s=0.04),
        "budget": Budget(devices=8),
        "space": Space(batch=(1, 3, 8, 16, 32, 64, 128)),
        "engine": "vllm-v1",
    }
    return Question(**{**usual, **given})
