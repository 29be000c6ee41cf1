"""What each engine keeps in memory beside weights and the cache of its sequences.

`engines.py` says how an engine runs a model; here stands what it holds while it does, release by
release where that changed. Every entry says what it rests on: the engine's own source or logs, or
measurements that were looked at, in which case docs/memory.md names a check on others.
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from analyzer.engines import engine as classes


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """One engine, or one span of its releases."""

    engine: str
    before: tuple[int, int] | None = None
    """First release that no longer behaves so; None: the newest."""
    before_date: str = ""
    """The month (YYYY-MM) of that release, for sources that state a date and no release."""
    staged: bool = False
    """Loading, reading and answering peak one after the other, each freeing what it took; False:
    a server, which does everything at once and so needs room for the sum."""
    eager: bool = False
    """A layer's caller, residual and normed input stay beside what its operators work on."""
    prompt_logits: bool = False
    """Logits of every prompt position are computed, not of the last alone."""
    score_B: float = 0.0
    """Bytes per attention score of a prompt that is written out, softmax included; 0: none is."""
    cache_copy: Literal["", "tensor", "whole"] = ""
    """What exists twice while a token is appended: one layer's keys, or the whole cache."""
    cache_for: Literal["all", "answer"] = "all"
    """Tokens that the cache is set aside for."""
    rotary_tables: bool = False
    """Every layer has tables of sines and cosines for all positions that the model knows."""
    tableless: tuple[str, ...] = ()
    """Architectures that had none any more."""
    joins: bool = False
    """While loading, the projections of query, key and value lie beside their joined copy."""
    loads_head: bool = False
    """While loading AWQ weights, a head that is tied to the embedding takes room of its own."""
    scratch: bool = False
    """GPTQ kernels (ExLlama) keep room for the largest matrix in 16 bits."""
    scratch_tokens: float = 0.0
    """And an fp32 product of so many tokens with the widest matrix."""
    warm_up_B: float = 0.0
    """Taken once before the first prompt."""
    buffers: Literal["", "ggml"] = ""
    """ggml: one buffer of fp32, as large as the hungriest moment of a step's graph."""
    table_on_host: bool = False
    """The token table stays in the host's memory."""
    workspace: bool = True
    """A matrix library's workspace counts in what the engine reports."""
    why: str = ""
    """What says so."""


SCORES_B = 2.0 + 4.0 + 4.0
"""Per score: in 16 bits, widened to fp32, and after the softmax; all three exist at once."""
WARM_UP_B = 2 * 4096.0 * 4096.0 * 4.0
"""Two fp32 matrices of AutoAWQ's benchmark: one is multiplied by itself."""

_NEW = "modeling and cache_utils of transformers: the cache is joined tensor by tensor"
HOLDINGS: dict[str, Holding] = {
    "transformers": Holding(
        engine="transformers", staged=True, eager=True, cache_copy="tensor", scratch=True,
        loads_head=True,
        why=f"{_NEW}; logits of the last position since 4.45; tied heads of AWQ from rows",
    ),
    "transformers-4.44": Holding(
        engine="transformers", before=(4, 45), before_date="2024-09", staged=True, eager=True,
        cache_copy="tensor", scratch=True, prompt_logits=True, rotary_tables=True,
        tableless=("llama",),
        why="logits of all positions as fp32; tables in each attention module",
    ),
    "transformers-4.41": Holding(
        engine="transformers", before=(4, 42), before_date="2024-06", staged=True, eager=True,
        cache_copy="whole", scratch=True, prompt_logits=True, rotary_tables=True,
        tableless=("llama",),
        why="generate() holds the old tuples while a cache object is made of them",
    ),
    "transformers-4.35": Holding(
        engine="transformers", before=(4, 36), before_date="2023-12", staged=True, eager=True,
        cache_copy="whole", scratch=True, prompt_logits=True, rotary_tables=True,
        score_B=SCORES_B, why="before scaled_dot_product_attention became the default",
    ),
    "autoawq": Holding(
        engine="autoawq", staged=True, prompt_logits=True, score_B=SCORES_B, cache_for="answer",
        warm_up_B=WARM_UP_B, loads_head=True,
        why="awq/modules/fused and examples/benchmark.py; tied heads from rows",
    ),
    "autoawq-0.1": Holding(
        engine="autoawq", before=(0, 2), before_date="2024-02", staged=True, prompt_logits=True,
        score_B=SCORES_B, cache_for="answer", warm_up_B=WARM_UP_B, loads_head=True, joins=True,
        why="joined projections beside their parts until all layers are joined, from rows",
    ),
    "llama.cpp": Holding(
        engine="llama.cpp", staged=True, buffers="ggml", table_on_host=True, workspace=False,
        why="what load_tensors, llama_kv_cache and llama_context print at the start",
    ),
}  # fmt: skip
"""By name; newer spans before older ones of the same engine."""

SERVER = Holding(engine="", why="everything at once: some requests are read while others answer")

KERNELS = {"exllamav2": ("scratch_tokens", 2048.0 * 8.0)}
"""Words of a scenario's variant that change what is held: ExLlama 2 makes room for a product of
8 prompts of 2,048 tokens (exllamav2 of AutoGPTQ and AutoAWQ)."""


def holding(engine: str, name: str = "") -> Holding:
    """What the engine holds; `name` as `holding_name` gives it, else the newest release."""
    span, _, kernel = name.partition("+")
    found = HOLDINGS.get(span or _family(engine), SERVER)
    if kernel not in KERNELS:
        return found
    field, value = KERNELS[kernel]
    return msgspec.structs.replace(found, **{field: value})


def _family(engine: str) -> str:
    """Engines of one family hold alike: accelerate what transformers holds."""
    return classes(engine).family


def holding_name(engine: str, version: str = "", date: str = "", variant: str = "") -> str:
    """The span of releases that a version belongs to, else a date; '' for the newest.

    A bare year is taken for its end. A version that is no number is none.
    """
    family = _family(engine)
    numbers = re.search(r"(\d+)\.(\d+)", version)
    release = (int(numbers[1]), int(numbers[2])) if numbers else None
    month = f"{date}-12" if len(date) == 4 else date
    found = ""
    for name, held in HOLDINGS.items():
        if held.engine != family or held.before is None:
            continue
        older = release < held.before if release else "" < month < held.before_date
        found = name if older else found
    kernel = next((word for word in KERNELS if word in variant), "")
    return f"{found or family}+{kernel}" if kernel and family in HOLDINGS else found
