"""Engine classes: which runs of which software may share one set of fitted rates.

Sources name engines freely ("transformers 4.46.3 + bitsandbytes", "Nvidia TensorRT-LLM"). Rates
differ between engines and between generations of one engine, not between patch releases, so a
class is an engine and, where it was rewritten, its generation. Documents tell their date more
reliably than their version (containers have version numbers of their own), so the date decides
where it is known.
"""

from __future__ import annotations

import re

import msgspec


class _Generation(msgspec.Struct, frozen=True):
    name: str
    before_date: str
    """First month (YYYY-MM) that no longer belongs to it; empty: the newest."""
    before_version: tuple[int, int]


_GENERATIONS: dict[str, tuple[_Generation, ...]] = {
    "vllm": (
        _Generation("vllm-2023", "2024-03", (0, 3)),
        _Generation("vllm-0.4", "2024-08", (0, 6)),
        _Generation("vllm-v0", "2025-03", (0, 8)),
        _Generation("vllm-v1", "", (0, 0)),
    ),
    "transformers-bnb": (
        _Generation("transformers-bnb-0", "2024-11", (0, 45)),
        _Generation("transformers-bnb", "", (0, 0)),
    ),
    "fastertransformer": (
        _Generation("fastertransformer-4", "2022-04", (5, 0)),
        _Generation("fastertransformer", "", (0, 0)),
    ),
    "tensorrt-llm": (
        _Generation("tensorrt-llm-0", "2025-01", (0, 10)),
        _Generation("tensorrt-llm-0.10", "2025-06", (1, 0)),
        _Generation("tensorrt-llm-1", "", (0, 0)),
    ),
}

_PATTERNS: tuple[tuple[str, str], ...] = (
    (r"neuron", "neuron"),
    (r"openvino|\bovms\b", "openvino"),
    (r"ktransformers", "ktransformers"),
    (r"bitsandbytes", "transformers-bnb"),
    (r"vllm.*ascend", "vllm-ascend"),
    (r"vllm.*\b2023\b", "vllm-2023"),
    (r"vllm", "vllm"),
    (r"tensorrt-?llm|trt-?llm", "tensorrt-llm"),
    (r"tensor-?rt", "tensorrt-llm-0"),
    (r"autoawq.*(cpu|ipex)", "autoawq-cpu"),
    (r"autoawq", "autoawq"),
    (r"optimum[- ]habana", "optimum-habana"),
    (r"deepspeed[- ]mii", "deepspeed-mii"),
    (r"zero[- ]inference|deepspeed zero", "zero-inference"),
    (r"deepspeed", "deepspeed"),
    (r"flexgen", "flexgen"),
    (r"accelerate", "accelerate"),
    (r"fastertransformer", "fastertransformer"),
    (r"megatron", "megatron-lm"),
    (r"lmdeploy|turbomind", "lmdeploy"),
    (r"llama[. ]?cpp|ollama|lm ?studio|llamafile|koboldcpp", "llama.cpp"),
    (r"sglang", "sglang"),
    (r"gpt-?fast", "gpt-fast"),
    (r"transformers|autogptq|auto-gptq|pytorch", "transformers"),
    (r"unstated|^$", "unstated"),
)


EXACT = frozenset(entry.name for entries in _GENERATIONS.values() for entry in entries)
"""Classes that are one generation of an engine; who names one means that one."""


def engine_class(engine: str, version: str = "", date: str = "") -> str:
    """The class of an engine as a source names it; `date` is YYYY or YYYY-MM of the measurement.

    A bare year is taken for its end.
    An engine that no pattern knows is a class of its own, under its own name in lower case.
    """
    folded = engine.strip().lower()
    if folded in EXACT and not version and not date:
        return folded
    for pattern, name in _PATTERNS:
        if re.search(pattern, folded):
            return _generation(name, version, date) if name in _GENERATIONS else name
    return re.sub(r"[^a-z0-9.]+", "-", folded.split("(")[0]).strip("-")


def _generation(name: str, version: str, date: str) -> str:
    generations = _GENERATIONS[name]
    numbers = re.match(r"v?(\d+)\.(\d+)", version)
    if len(date) == 4:
        date += "-12"
    for generation in generations[:-1]:
        if date:
            if date < generation.before_date:
                return generation.name
        elif numbers and (int(numbers[1]), int(numbers[2])) < generation.before_version:
            return generation.name
    return generations[-1].name
