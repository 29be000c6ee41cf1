"""How engines schedule unless told otherwise: by class, by version, by the device they find.

Taken from the engines' own sources and documentation, not from measurements. What a deployment was
told (its flags, its log) always wins.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from analyzer.engines import engine as engine_class
from analyzer.errors import ConfigError
from analyzer.releases import ASYNCHRONOUS
from analyzer.system import Device
from analyzer.units import GIB

Version = tuple[int, ...]
LARGE_B = 70 * GIB
"""Devices with so much memory get vLLM's larger limits; an A100 does not."""
LARGEST_B = 160 * GIB
NEWEST: Version = (999,)


class Habits(NamedTuple):
    """A scheduler's defaults."""

    step_tokens: int
    sequences: int
    asynchronous: bool = False
    """A step is planned while the one before it runs."""
    prompts_alone: bool = False
    """Prompts and answers never share a step, and prompts go first."""
    chunked_prefill: bool = True
    reserve_whole_prompt: bool = True
    """A prompt is let in only if all of it fits, not just its first chunk."""
    reserve_answer: bool = False
    """A request is let in only if its whole answer will fit too: nothing is ever thrown out."""
    prefix_caching: bool = True
    watermark: float = 0.0
    router: str = "round_robin"
    """Among data-parallel ranks."""
    graph_tokens: int = 0
    """Steps with prompts of no more tokens are replayed like those without."""


WHOLE_PROMPTS_SINCE: Version = (0, 19)
LARGEST_SINCE: Version = (0, 20)
GRAPH_TOKENS = 512
"""vLLM V1 captures mixed steps piece by piece up to so many tokens."""


def habits(engine: str, version: Version, device: Device, max_model_tokens: int) -> Habits:
    """What an engine of that class and version does by itself on such a device."""
    family = engine_class(engine).family
    if family == "vllm":
        if engine == "vllm-v1":
            return _vllm_v1(version, device)
        return _vllm_v0(max_model_tokens)
    if family == "tensorrt-llm":
        return Habits(
            8192,
            2048,
            asynchronous=engine == "tensorrt-llm-1",
            chunked_prefill=False,
            reserve_answer=True,
            prefix_caching=engine == "tensorrt-llm-1",
        )
    if family == "sglang":
        return _sglang(device)
    return _vllm_v1(NEWEST, device)._replace(asynchronous=False)


def _vllm_v1(version: Version, device: Device) -> Habits:
    memory_B = float(device.memory_B)
    tokens, sequences = 2048, 256
    if memory_B >= LARGEST_B and version >= LARGEST_SINCE:
        tokens, sequences = 16_384, 1024
    elif memory_B >= LARGE_B and "A100" not in device.name.upper():
        tokens, sequences = 8192, 1024
    return Habits(
        tokens,
        sequences,
        asynchronous=version >= ASYNCHRONOUS["vllm-v1"].release,
        router="least_loaded",
        graph_tokens=GRAPH_TOKENS,
        reserve_whole_prompt=version >= WHOLE_PROMPTS_SINCE,
    )


def _vllm_v0(max_model_tokens: int) -> Habits:
    """Whole prompts in steps of their own; models of long contexts were chunked from 0.5 on."""
    if max_model_tokens > 32_768:
        return Habits(2048, 256, prefix_caching=False, watermark=0.01, reserve_whole_prompt=False)
    return Habits(
        max(max_model_tokens, 2048),
        256,
        prompts_alone=True,
        chunked_prefill=False,
        prefix_caching=False,
        watermark=0.01,
    )


def _sglang(device: Device) -> Habits:
    """Chunks by the device's memory; answers wait while prompts are worked off."""
    memory_B = float(device.memory_B)
    tokens = 2048
    for at_least, chunk in ((160 * GIB, 16_384), (60 * GIB, 8192), (35 * GIB, 4096)):
        if memory_B >= at_least:
            tokens = chunk
            break
    return Habits(tokens, 2048, asynchronous=True, prompts_alone=True)


def version_of(text: str) -> Version:
    """'0.11.0', 'v0.11', '0.11.0rc1' as numbers; nothing said: the newest."""
    if not text:
        return NEWEST
    found = re.match(r"v?(\d+(?:\.\d+)*)", text.strip())
    if found is None:
        raise ConfigError(f"engine version {text!r} does not begin with numbers such as 0.11.0")
    return tuple(int(part) for part in found[1].split("."))
