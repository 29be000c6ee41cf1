"""What each class of engine does by itself, as far as counting and memory can see it.

`records_engine.engine_class` says which class a source's engine belongs to; here stands how such an
engine runs a model. Speeds are not here: those are rates, and calibration fits them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from analyzer.plan import Plan
    from analyzer.system import Device


class EngineClass(msgspec.Struct, frozen=True, kw_only=True):
    """Behaviour that no rate can express."""

    name: str
    family: str
    """Software it is a generation of: 'vllm' for 'vllm-v0' and 'vllm-v1'."""
    lineage: str
    """The one engine that it is a generation of: whoever names that means any of them, while other
    engines of the family are others."""
    fused: bool = True
    """Norms, activations and residuals run as fused kernels."""
    flash: bool = True
    """Attention never writes its scores to memory."""
    graphs: bool = True
    """Steps are replayed as graphs or issued by a compiled loop: the host never holds them up."""
    graph_context: int | None = None
    """Longest sequence whose steps are replayed; beyond it the host issues kernels one by one."""
    queues: bool = True
    """Sequences that do not fit the cache wait; False: the run fails."""
    max_sequences: float = 256.0
    """Sequences that it runs at once unless told otherwise."""
    memory_share: float = 0.9
    """Share of the device's memory that the engine uses at most."""
    share_of: Literal["device", "rest"] = "device"
    """What the share is of: all memory, or what weights and buffers leave to the cache."""
    sampled: float = 2048.0
    """Sequences that a step has room for logits of, at most."""
    tries_step: bool = True
    """The share holds the largest step's tensors as well; False: they lie in what is beyond it."""
    step_tokens: float = 8192.0
    """Prompt tokens that one step takes at most while requests wait."""
    polls: tuple[tuple[float, float], ...] = ((0.0, 1.0),)
    """Decode steps between two looks at what has arrived, from so many requests in flight on."""
    splits_prompts: bool = False
    """A longer prompt is worked off in several steps; False: a step has room for the longest."""
    small_device_B: float = 0.0
    """Memory below which a device gets the two limits that follow (A100s do whatever they have)."""
    small_step_tokens: float = 8192.0
    small_sequences: float = 256.0
    reserves: float = 0.5
    """Share of an answer that a request's place in the cache is counted with: 1 where the whole of
    it is set aside, 0.5 where all that fits is let in and what grows too large is thrown out."""
    chunk_tokens: int | None = None
    """Prompt tokens that it works off per step; None: whole prompts."""
    pipelined: bool = True
    """Pipeline stages work on several micro-batches; False: one stage after the other."""
    chunks_overlap: bool = False
    """While a stage works on a chunk of the prompt, the stage before works on the next one."""
    gathers_products: bool = False
    """Tensor parallelism cuts every matrix by rows of its result and gathers it in fp32."""
    narrow_kv: bool = False
    """True where an 8-bit or narrower model runs with an 8-bit cache by default."""
    pads_heads: bool = False
    """Ranks that do not divide a model's heads get empty ones; False: such a layout is refused."""
    uneven_heads: bool = False
    """Ranks that do not divide a model's heads take unequal shares (DeepSpeed; llama.cpp, by rows).
    Counted by the largest share, they are predicted, and left out of fits."""
    whole_ep: bool = False
    """Expert parallelism is a switch: experts lie whole on all ranks, or each is cut over all."""
    cache_copies: float = 0.0
    """Times a step copies the whole cache (transformers' dynamic cache concatenates)."""
    windowed: bool = True
    """Attention and cache end at a model's sliding window without being told to."""
    own_keys: bool = False
    """Attention reads keys for each query head, where heads share them as well: transformers makes
    a copy for each, unless all share one."""
    kernels: float = 1.0
    """Kernels that it starts where a server with fused ones starts one."""
    expert_kernels: float = 0.0
    """Kernels, or host time as for so many, beside the products of a layer's routed experts."""
    shared_kernels: float = 0.0
    """Kernels more for attention whose query heads share keys: products by tables of pointers."""
    split_heads: float = 0.0
    """Sequences times query heads up to which its decode kernel splits the keys of a sequence among
    processors; 0: it always may. Beyond, a processor walks a whole context for each query."""
    matrix_ratio: float = 0.0
    """Query heads per KV head for which decoding has a kernel on matrix units; 0: for none, or as
    fast for any."""


def _class(name: str, family: str = "", **behaviour: object) -> EngineClass:
    named = {"lineage": family or name, **behaviour}
    return EngineClass(name=name, family=family or name, **named)  # type: ignore[arg-type]


def _eager(name: str, lineage: str = "") -> EngineClass:
    """What runs transformers' own model code."""
    return _class(
        name,
        "transformers",
        lineage=lineage or name,
        fused=False,
        graphs=False,
        queues=False,
        memory_share=1.0,
        pipelined=False,
        cache_copies=1.0,
        own_keys=True,
    )


ENGINES: dict[str, EngineClass] = {
    entry.name: entry
    for entry in (
        _class("vllm-2023", "vllm", whole_ep=True, graphs=False, split_heads=512.0),
        _class("vllm-0.4", "vllm", whole_ep=True, graph_context=8192, split_heads=512.0),
        _class("vllm-v0", "vllm", whole_ep=True, split_heads=512.0),
        _class(
            "vllm-v1",
            "vllm",
            whole_ep=True,
            splits_prompts=True,
            max_sequences=1024.0,
            small_device_B=70 * 2.0**30,
            small_step_tokens=2048.0,
        ),
        _class("vllm-ascend", "vllm", whole_ep=True),
        _class(
            "tensorrt-llm-0",
            "tensorrt-llm",
            windowed=False,
            sampled=256.0,
            max_sequences=2048.0,
            reserves=1.0,
            matrix_ratio=8.0,
        ),
        _class(
            "tensorrt-llm-0.10",
            "tensorrt-llm",
            windowed=False,
            share_of="rest",
            max_sequences=2048.0,
            reserves=1.0,
        ),
        _class(
            "tensorrt-llm-1",
            "tensorrt-llm",
            narrow_kv=True,
            tries_step=False,
            max_sequences=2048.0,
            reserves=1.0,
        ),
        _class("sglang", max_sequences=2048.0, splits_prompts=True, tries_step=False),
        _class("lmdeploy", share_of="rest"),
        _class("fastertransformer-4", "fastertransformer", queues=False, memory_share=1.0),
        _class("fastertransformer", queues=False, memory_share=1.0),
        _class("megatron-lm", queues=False, memory_share=1.0, graphs=False),
        _class("deepspeed", queues=False, memory_share=1.0, graphs=False, uneven_heads=True),
        _class("deepspeed-mii", graphs=False),
        _class("optimum-habana", queues=False, memory_share=1.0, graphs=False, uneven_heads=True),
        _class("gpt-fast", queues=False, memory_share=1.0),
        _class("flexgen", queues=False, memory_share=1.0, graphs=False),
        _class(
            "llama.cpp",
            queues=False,
            memory_share=1.0,
            pipelined=False,
            chunk_tokens=512,
            chunks_overlap=True,
            flash=False,
            gathers_products=True,
            uneven_heads=True,
            kernels=2.5,
            expert_kernels=45.0,
            shared_kernels=4.0,
        ),
        _class("neuron", queues=False, memory_share=1.0, pads_heads=True),
        _class("openvino"),
        _class("autoawq", queues=False, memory_share=1.0, graphs=False, flash=False),
        _class(
            "autoawq-cpu", queues=False, memory_share=1.0, graphs=False, flash=False, own_keys=True
        ),
        _eager("transformers"),
        _eager("transformers-bnb-0", "transformers-bnb"),
        _eager("transformers-bnb"),
        _eager("accelerate"),
        _class("unstated", queues=False, memory_share=1.0, graphs=False),
    )
}


_RARE_LOOKS = {"step_tokens": 16_384.0, "polls": ((0.0, 10.0), (16.0, 30.0))}
_LARGE_CHUNKS = {"step_tokens": 131_072.0, "polls": ((0.0, 4.0),)}
RECIPES: dict[tuple[str, str], dict[str, Any]] = {
    ("sglang", "blackwell"): _RARE_LOOKS,
    ("sglang", "blackwell-ultra"): _RARE_LOOKS,
    ("sglang", "cdna3"): _LARGE_CHUNKS,
    ("sglang", "cdna4"): _LARGE_CHUNKS,
}
"""How an engine's family is started on an architecture, where recipes agree on it and differ from
what the engine does unless told otherwise. SGLang's for Blackwell, and InferenceMAX's scripts made
from them, set `--scheduler-recv-interval`; chunks are SGLang's own choice for so large a memory.
AMD's for CDNA 3 and 4 set `--num-continuous-decode-steps 4` and chunks of 131,072 tokens."""


def engine(name: str) -> EngineClass:
    """The class of that name; an engine that is not known behaves like a fused server."""
    return ENGINES.get(name) or EngineClass(name=name, family=name, lineage=name)


def engine_on(name: str, device: Device) -> EngineClass:
    """The class of that name with the scheduler's limits that it chooses on such a device."""
    kind = engine(name)
    recipe = RECIPES.get((kind.family, device.family))
    if recipe is not None:
        return msgspec.structs.replace(kind, **recipe)
    if kind.small_device_B == 0.0:
        return kind
    if device.memory_B >= kind.small_device_B and "A100" not in device.name.upper():
        return kind
    return msgspec.structs.replace(
        kind, step_tokens=kind.small_step_tokens, max_sequences=kind.small_sequences
    )


def told(kind: EngineClass, plan: Plan) -> EngineClass:
    """The class as the plan tells its server to run."""
    limits = {"step_tokens": plan.step_tokens, "max_sequences": plan.places}
    stated = {name: float(value) for name, value in limits.items() if value}
    return msgspec.structs.replace(kind, **stated) if stated else kind


def generations(name: str) -> list[str]:
    """All generations of the engine whose class has that name, oldest first."""
    lineage = engine(name).lineage
    return [entry.name for entry in ENGINES.values() if entry.lineage == lineage]
