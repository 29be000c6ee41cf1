"""Weights, cache and room as vLLM printed them at its start, in logs that users made public.

Each line is one log: weights, the memory left for the cache, tokens or blocks.
"""

from __future__ import annotations

import msgspec
import pytest

from analyzer.counting.cache import cache_B
from analyzer.counting.footprint import weights_B
from analyzer.engines import engine
from analyzer.models_catalog import load
from analyzer.phases import lay
from analyzer.plan import Plan
from analyzer.pools import cache_room
from analyzer.workload import Workload

GIB = 2.0**30


@pytest.mark.parametrize(
    ("model", "weights", "tp", "logged_GiB"),
    [
        ("llama-3.1-8b", "bf16", 1, 14.99),
        ("llama-3-8b", "bf16", 2, 7.48),
        ("llama-3.3-70b", "fp8", 1, 67.7),
        ("qwen2.5-1.5b", "fp16", 1, 2.8875),
    ],
)
def test_loading_a_model_takes_what_is_logged(
    model: str, weights: str, tp: int, logged_GiB: float
) -> None:
    named = load(model)
    held = weights_B(named, lay(named, Plan(weights=weights, tp=tp)).layout)
    assert float(held) / GIB == pytest.approx(logged_GiB, rel=5e-3)


@pytest.mark.parametrize(
    ("model", "kv", "cache_B_logged", "tokens", "block"),
    [
        ("llama-3.1-8b", "bf16", 59212694937.0, 451_744, 16),
        ("llama-3.1-8b", "bf16", 5.29 * GIB, 43_296, 16),
        ("llama-3.1-8b", "bf16", 4.60 * GIB, 2356 * 16, 16),
        ("llama-3.3-70b", "fp8", 5.11 * GIB, 33_504, 16),
        ("qwen2.5-1.5b", "fp16", 2.36 * GIB, 5519 * 16, 16),
        ("qwen3-0.6b", "bf16", 54.98 * GIB, 514_688, 128),
    ],
)
def test_a_token_of_the_cache_takes_what_is_logged(
    model: str, kv: str, cache_B_logged: float, tokens: int, block: int
) -> None:
    """Whole blocks fill what is left; the log rounds it to two decimals."""
    named = load(model)
    token_B = float(cache_B(named, lay(named, Plan(kv=kv)).layout, 1.0).kv_B)
    rounding_B = 0.0 if cache_B_logged % 1.0 == 0.0 else 0.005 * GIB
    assert tokens * token_B <= cache_B_logged + rounding_B
    assert (tokens + block) * token_B > cache_B_logged - rounding_B


@pytest.mark.parametrize(
    ("generation", "device_GiB", "share", "logged_GiB"),
    [("vllm-v1", 79.25, 0.92, 56.21), ("vllm-v0", 79.14, 0.90, 54.93)],
)
def test_what_is_left_for_the_cache_of_an_h100(
    generation: str, device_GiB: float, share: float, logged_GiB: float
) -> None:
    """Llama-3.1-8B at the server's own limits: 8,192 tokens a step, 1,024 or 256 sequences."""
    model = load("llama-3.1-8b")
    laid = lay(model, Plan(engine=generation))
    load_ = Workload(input_tokens=1024, output_tokens=1)
    room = cache_room(laid, load_, device_GiB * share * GIB, engine(generation))
    assert float(room.bytes) / GIB == pytest.approx(logged_GiB, rel=0.01)


def test_a_small_device_leaves_what_its_smaller_step_leaves() -> None:
    """Llama-3.1-8B on 40 GB with steps of 8,192 tokens and 256 sequences: 19.28 GiB of 35.54."""
    laid = lay(load("llama-3.1-8b"), Plan(engine="vllm-v1"))
    kind = msgspec.structs.replace(engine("vllm-v1"), max_sequences=256.0)
    room = cache_room(laid, Workload(input_tokens=1, output_tokens=1), 39.49 * 0.9 * GIB, kind)
    assert float(room.bytes) / GIB == pytest.approx(19.28, rel=0.01)


def test_shares_are_of_what_each_engine_says() -> None:
    """TensorRT-LLM takes nine tenths of what is left, vLLM nine tenths of all, SGLang of all but a
    step's tensors."""
    model, load_ = load("llama-3.3-70b"), Workload(input_tokens=1024, output_tokens=1)
    laid = lay(model, Plan(weights="fp8"))
    left = {}
    for name in ("vllm-v0", "tensorrt-llm-0.10", "sglang"):
        kind = msgspec.structs.replace(engine(name), max_sequences=256.0, splits_prompts=True)
        left[name] = float(cache_room(laid, load_, 0.9 * 80e9, kind).bytes)
    beside_B = 0.9 * 80e9 - left["vllm-v0"]
    assert left["tensorrt-llm-0.10"] == pytest.approx(0.9 * (80e9 - beside_B))
    assert left["sglang"] > left["vllm-v0"]
