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
    (r"vllm.*\bv0\b(?!\.\d)", "vllm-v0"),
    (r"vllm.*\bv1\b(?!\.\d)", "vllm-v1"),
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


_RELEASE = re.compile(r"\d+\.\d+(?:\.\d+)*\S*", re.ASCII)
_CONTAINER = re.compile(r"0\.[5-9]\.\d+(?:\.post|-rc\d+\.pre)\d+", re.ASCII)
"""Tags of Dynamo's containers, which tables of 2025 state as the version of the TensorRT-LLM or
vLLM inside; neither engine ever had such releases."""


def engine_class(engine: str, version: str = "", date: str = "") -> str:
    """The class of an engine as a source names it; `date` is YYYY or YYYY-MM of the measurement.

    A bare year is taken for its end. A release in the name itself counts where no other is stated.
    An engine that no pattern knows is a class of its own, under its own name in lower case.
    """
    folded = _folded(engine)
    if folded in EXACT and not version and not date:
        return folded
    found = _match(folded)
    if found is None:
        return re.sub(r"[^a-z0-9.]+", "-", folded.split("(")[0]).strip("-")
    name = found[0]
    if name not in _GENERATIONS:
        return name
    return _generation(name, release(engine, version), date)


def release(engine: str, version: str = "") -> str:
    """The engine's release: as stated, else as its name ends ("vLLM 0.11"); '' where untold."""
    if _CONTAINER.match(version):
        return ""
    found = None if version else _match(_folded(engine))
    number = _RELEASE.search(found[1]) if found else None
    return number.group() if number else version


def tells_generation(engine: str, version: str = "", date: str = "") -> bool:
    """Whether the words leave no choice among the generations of an engine."""
    folded = _folded(engine)
    found = _match(folded)
    exact = folded in EXACT or (found is not None and found[0] in EXACT)
    return exact or bool(release(engine, version) or date)


def _folded(engine: str) -> str:
    return engine.strip().lower()


def _match(folded: str) -> tuple[str, str] | None:
    """The class or engine that a name stands for, and what follows it there."""
    for pattern, name in _PATTERNS:
        found = re.search(pattern, folded)
        if found:
            return name, folded[found.end() :]
    return None


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
