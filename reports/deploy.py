"""A plan as somebody would deploy it: the server's command line, a manifest, and how to check it.

Flags are those of the servers' own documentation: vLLM 0.24, SGLang 0.5 and TensorRT-LLM 1.x. What
a flag cannot say is a note.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from typing import NamedTuple

from analyzer import precision
from analyzer.engines import engine
from analyzer.errors import ConfigError, nearest
from analyzer.model import Model
from analyzer.models_catalog import entry, resolve
from analyzer.plan import Plan
from analyzer.system import System

SHARE = 0.9
"""Of the device's memory, as predictions have it."""


class Launch(NamedTuple):
    """One server's command."""

    server: str
    words: tuple[str, ...]
    files: tuple[tuple[str, str], ...]
    """Files that the command reads: name and content."""
    notes: tuple[str, ...]

    @property
    def line(self) -> str:
        """As typed into a shell."""
        return " ".join(shlex.quote(word) for word in self.words)


class Served(NamedTuple):
    """What a server needs to know of a plan. Sequences and tokens are of one replica."""

    model: Model
    system: System
    plan: Plan
    sequences: int
    max_tokens: int
    """Prompt and answer together."""


def hub_id(model: Model) -> str:
    """Where the model's weights are published, or its name where that is not known."""
    found = resolve(model.name)
    return entry(found[0]).hub_id if found else model.name


def launch(served: Served, server: str) -> Launch:
    """The command of one server."""
    if server not in LAUNCHERS:
        raise ConfigError(
            f"no launcher for {server!r}{nearest(server, LAUNCHERS)}; use {', '.join(LAUNCHERS)}"
        )
    return LAUNCHERS[server](served)


def server_of(plan: Plan) -> str:
    """The server that the plan's engine is; vLLM for engines that are none."""
    family = engine(plan.engine).family
    return family if family in LAUNCHERS else "vllm"


def _vllm(served: Served) -> Launch:
    plan, model = served.plan, served.model
    notes = list(_notes(served))
    words = ["vllm", "serve", hub_id(model)]
    words += ["--tensor-parallel-size", str(plan.tp // plan.attention_dp)]
    if plan.pp > 1:
        words += ["--pipeline-parallel-size", str(plan.pp)]
    if plan.attention_dp > 1:
        words += ["--data-parallel-size", str(plan.attention_dp)]
    if plan.ep > 1:
        words += ["--enable-expert-parallel"]
        if plan.ep != plan.tp:
            notes.append(f"vLLM deals experts to all {plan.tp} ranks; the plan has ep={plan.ep}")
    if _online(served):
        words += ["--quantization", precision.lookup(plan.weights).compute]
    if _narrow_cache(plan):
        words += ["--kv-cache-dtype", "fp8"]
    words += ["--max-num-seqs", str(served.sequences), "--max-model-len", str(served.max_tokens)]
    words += _vllm_chunks(served)
    words += ["--gpu-memory-utilization", f"{SHARE:g}"]
    if plan.speculation is not None:
        words += ["--speculative-config", json.dumps(_drafts(plan))]
    if plan.offload is not None:
        words += ["--cpu-offload-gb", f"{_host_gb(served):.1f}"]
    return Launch("vllm", tuple(words), (), tuple(notes))


def _vllm_chunks(served: Served) -> list[str]:
    if served.plan.chunk_tokens is not None:
        return ["--max-num-batched-tokens", str(served.plan.chunk_tokens)]
    # Whole prompts: a step must hold the longest.
    return ["--max-num-batched-tokens", str(max(served.max_tokens, served.sequences))]


def _sglang(served: Served) -> Launch:
    plan = served.plan
    words = ["python", "-m", "sglang.launch_server", "--model-path", hub_id(served.model)]
    words += ["--tp-size", str(plan.tp)]
    if plan.pp > 1:
        words += ["--pp-size", str(plan.pp)]
    if plan.attention_dp > 1:
        words += ["--dp-size", str(plan.attention_dp), "--enable-dp-attention"]
    if plan.ep > 1:
        words += ["--ep-size", str(plan.ep)]
    if _online(served):
        words += ["--quantization", precision.lookup(plan.weights).compute]
    if _narrow_cache(plan):
        words += ["--kv-cache-dtype", "fp8_e4m3"]
    words += ["--max-running-requests", str(served.sequences)]
    words += ["--context-length", str(served.max_tokens)]
    words += ["--chunked-prefill-size", str(plan.chunk_tokens or -1)]
    words += ["--mem-fraction-static", f"{SHARE:g}"]
    notes = list(_notes(served))
    if plan.offload is not None:
        words += ["--cpu-offload-gb", f"{_host_gb(served):.0f}"]
    if plan.speculation is not None:
        notes.append("drafts: set --speculative-algorithm and its own flags by hand")
    return Launch("sglang", tuple(words), (), tuple(notes))


def _tensorrt_llm(served: Served) -> Launch:
    plan = served.plan
    words = ["trtllm-serve", hub_id(served.model), "--tp_size", str(plan.tp)]
    if plan.pp > 1:
        words += ["--pp_size", str(plan.pp)]
    if plan.ep > 1:
        words += ["--ep_size", str(plan.ep)]
    words += ["--max_batch_size", str(served.sequences), "--max_seq_len", str(served.max_tokens)]
    words += ["--max_num_tokens", str(plan.chunk_tokens or max(served.max_tokens, 8192))]
    words += ["--kv_cache_free_gpu_memory_fraction", f"{SHARE:g}"]
    options = []
    if plan.attention_dp > 1:
        options.append("enable_attention_dp: true")
    if plan.chunk_tokens is not None:
        options.append("enable_chunked_prefill: true")
    if _narrow_cache(plan):
        options += ["kv_cache_config:", "  dtype: fp8"]
    files: tuple[tuple[str, str], ...] = ()
    if options:
        files = (("trtllm-options.yaml", "\n".join(options) + "\n"),)
        words += ["--extra_llm_api_options", "trtllm-options.yaml"]
    notes = list(_notes(served))
    if _online(served):
        notes.append(f"needs a checkpoint in {plan.weights}: TensorRT-LLM does not make one")
    for lacking in ("speculation", "offload"):
        if getattr(plan, lacking) is not None:
            notes.append(f"{lacking}: set it by hand, trtllm-serve has no flag for it")
    return Launch("tensorrt-llm", tuple(words), files, tuple(notes))


LAUNCHERS: dict[str, Callable[[Served], Launch]] = {
    "vllm": _vllm,
    "sglang": _sglang,
    "tensorrt-llm": _tensorrt_llm,
}


def _online(served: Served) -> bool:
    """Whether the server itself narrows released 16-bit weights, as it does to 8 bits."""
    mine, native = (
        precision.lookup(name) for name in (served.plan.weights, served.model.native_weights)
    )
    return mine.name != native.name and mine.name in ("fp8", "fp8-dynamic") and native.bits >= 16


def _narrow_cache(plan: Plan) -> bool:
    return bool(plan.kv) and precision.lookup(plan.kv).bits <= 8


def _notes(served: Served) -> list[str]:
    plan, native = served.plan, served.model.native_weights
    notes = []
    if plan.weights != native and not _online(served):
        notes.append(f"needs a checkpoint in {plan.weights}; the released weights are {native}")
    if resolve(served.model.name) is None:
        notes.append(f"{served.model.name}: put the path or hub id of its weights there")
    if plan.dp > 1:
        notes.append(f"{plan.dp} replicas of this behind a load balancer")
    return notes


def _drafts(plan: Plan) -> dict[str, object]:
    spec = plan.speculation
    if spec is None:
        return {}
    if spec.draft is not None:
        return {"model": hub_id(spec.draft), "num_speculative_tokens": spec.tokens}
    return {"method": "ngram", "num_speculative_tokens": spec.tokens, "prompt_lookup_max": 4}


def _host_gb(served: Served) -> float:
    """Gigabytes of weights per device that rest in host memory."""
    from analyzer.counting.parameters import count_parameters

    share = served.plan.offload.weights_host if served.plan.offload else 0.0
    width_B = precision.lookup(served.plan.weights).bytes_per_value
    held = count_parameters(served.model).total * width_B
    return float(held * share / (served.plan.tp * served.plan.pp) / 1e9)
