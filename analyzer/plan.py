"""How a model is laid over devices: formats, parallelism, chunking, speculation, adapters."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from analyzer import precision
from analyzer.counting.context import Layout
from analyzer.counting.routing_trace import Routing
from analyzer.engines import engine
from analyzer.errors import ConfigError
from analyzer.kquants import mixed_bits
from analyzer.model import Model, MoE
from analyzer.optable import COMPUTE_INDEX
from analyzer.unpacking import unpacking


class Speculation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A draft proposes `tokens`; each is accepted with probability `acceptance`."""

    tokens: int
    acceptance: float
    draft: Any = None
    """The draft Model; None: the model's own prediction layers, or no cost (n-gram)."""


class LoRA(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unmerged low-rank adapters, `adapters` of them active in a step."""

    rank: int
    adapters: int = 1


class Offload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Shares of weights and KV cache kept off the device, in host memory and on disk."""

    weights_host: float = 0.0
    weights_disk: float = 0.0
    kv_host: float = 0.0
    kv_disk: float = 0.0

    def __post_init__(self) -> None:
        for name, share in msgspec.structs.asdict(self).items():
            if not 0.0 <= share <= 1.0:
                raise ConfigError(f"offload {name} must be a share from 0 to 1, not {share:g}")
        for what, away in (("weights", self.weights_away), ("kv", self.kv_away)):
            if away > 1.0:
                raise ConfigError(f"offload: host and disk shares of {what} add up to {away:g} > 1")

    @property
    def weights_away(self) -> float:
        """Share of the weights that is not on the device."""
        return self.weights_host + self.weights_disk

    @property
    def kv_away(self) -> float:
        """Share of the cache that is not on the device."""
        return self.kv_host + self.kv_disk


class Plan(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One deployment of one model. Integers may be arrays; format names are single names."""

    tp: Any = 1
    """Ranks of one pipeline stage of one replica."""
    pp: int = 1
    dp: Any = 1
    """Independent replicas."""
    ep: Any = 1
    """Ranks that whole experts are dealt to, among the tp ranks."""
    attention_dp: Any = 1
    """Groups of the tp ranks that hold whole sequences during attention."""
    sequence_parallel: bool = False
    weights: str = ""
    """Format of the weights; empty: the model's own."""
    activations: str = "bf16"
    kv: str = ""
    """Format of the cache; empty: that of the activations."""
    compute: str = ""
    """Format of the arithmetic in linear layers; empty: what the weights' format implies."""
    chunk_tokens: int | None = None
    """Prompt tokens per step; None: the whole prompt batch at once."""
    micro_batches: int | None = None
    """Pieces that the pipeline works on at once; None: one per stage where the batch allows."""
    overlap: int = 1
    """Micro-batches of a step that hide each other's communication behind compute: 2 is a dual
    batch, or ping-pong; 1 hides nothing."""
    speculation: Speculation | None = None
    lora: LoRA | None = None
    offload: Offload | None = None
    routing_skew: float = 0.0
    """0: tokens fall on experts evenly; s: popularity is a power law, rank^-s."""
    routing: Routing | None = None
    """Which experts tokens were seen to visit; in place of a skew."""
    alike: bool = False
    """All sequences of a batch are the same text, so that they visit the same experts."""
    absorb_mla: bool = True
    engine: str = ""
    """Which software runs it; decides whose calibration applies. Empty: the best calibrated."""
    holding: str = ""
    """Which of its releases, as far as they differ in what they hold (see holdings.py)."""
    asynchronous: bool | None = None
    """The host plans a step while the device runs the one before; None: as the engine's newest
    release does (see releases.py)."""
    fused: bool = True
    """False for engines that run norms and activations as single kernels (eager)."""
    flash: bool = True
    """False for engines whose attention writes its scores to memory."""
    chunks_overlap: bool = False
    """Pipeline stages work on successive chunks of a prompt at the same time."""
    poll_steps: int | None = None
    """Decode steps between two looks of a server at what has arrived; None: as it is usually
    started on the device."""
    step_tokens: int | None = None
    """Prompt tokens that a server's step takes while requests wait; None: the engine's default."""
    places: int | None = None
    """Sequences that a server runs at once at most; None: the engine's default."""
    batch_wait: int = 0
    """Steps that a server holds a prompt back so that others come and are read together with it:
    no longer than until each group of attention data parallelism has one, if there are several."""

    @property
    def devices(self) -> Any:
        """Devices of all replicas."""
        return (
            np.asarray(self.tp) * self.pp * np.asarray(self.dp)
            if _any_array(self.tp, self.dp)
            else self.tp * self.pp * self.dp
        )


def _any_array(*values: Any) -> bool:
    return any(isinstance(value, np.ndarray) for value in values)


def layout(model: Model, plan: Plan) -> Layout:
    """The part of a plan that counting needs, as numbers."""
    weights = precision.lookup(plan.weights or model.native_weights)
    activations = precision.lookup(plan.activations)
    kv = precision.lookup(plan.kv or plan.activations)
    compute = plan.compute or weights.compute
    if compute not in COMPUTE_INDEX:
        compute = precision.lookup(compute).compute
    whole = weights.covers_embeddings
    experts_only = weights.name == "mxfp4" and any(isinstance(x.ffn, MoE) for x in model.layers)
    dense = activations if experts_only else weights
    mixed = mixed_bits(weights.name, model)
    tables_B = weights.bytes_per_value if whole else max(activations.bytes_per_value, 2.0)
    wide = COMPUTE_INDEX[_wide(activations)]
    narrow = compute in precision.NARROW
    return Layout(
        tp=_number(plan.tp),
        ep=_number(plan.ep),
        attention_dp=_number(plan.attention_dp),
        sequence_parallel=plan.sequence_parallel,
        weight_B=mixed.linears / 8.0 if mixed else dense.bytes_per_value,
        embedding_B=mixed.embedding / 8.0 if mixed else tables_B,
        head_B=mixed.head / 8.0 if mixed else None,
        act_B=activations.bytes_per_value,
        kv_B=kv.bytes_per_value,
        state_B=max(activations.bytes_per_value, 2.0),
        compute=wide if experts_only else COMPUTE_INDEX[compute],
        attention_compute=wide,
        head_compute=wide,
        expert_weight_B=weights.bytes_per_value if experts_only else None,
        expert_compute=COMPUTE_INDEX[compute] if experts_only else None,
        unpacking=unpacking(plan.engine, weights, compute),
        quantise_activations=1.0 if narrow else 0.0,
        routing_skew=plan.routing_skew,
        routing=plan.routing,
        alike=float(plan.alike),
        absorb_mla=plan.absorb_mla,
        fused=plan.fused,
        flash=plan.flash,
        lora_rank=float(plan.lora.rank) if plan.lora else 0.0,
        lora_adapters=float(plan.lora.adapters) if plan.lora else 0.0,
        **_habits(plan),
    )


def _habits(plan: Plan) -> dict[str, Any]:
    """What the engine does by itself; nothing is known of one that is not named."""
    if not plan.engine:
        return {}
    kind = engine(plan.engine)
    return {
        "cache_copies": kind.cache_copies,
        "split_heads": kind.split_heads,
        "matrix_ratio": kind.matrix_ratio,
        "gathers_products": kind.gathers_products,
        "kernels": kind.kernels,
        "windowed": kind.windowed,
        "own_keys": kind.own_keys,
        "shared_kernels": kind.shared_kernels,
        "expert_kernels": kind.expert_kernels,
    }


def _wide(activations: precision.Format) -> str:
    return activations.compute if activations.compute in ("fp32", "bf16", "fp16", "fp8") else "bf16"


def _number(value: Any) -> Any:
    return value.astype(np.float64) if isinstance(value, np.ndarray) else float(value)


def stages(model: Model, pp: int) -> list[slice]:
    """Layers of each pipeline stage; the first stages take one more where it does not divide."""
    total = len(model.layers)
    if not 1 <= pp <= total:
        raise ConfigError(f"pp={pp} cannot cut the {total} layers of {model.name}; use 1..{total}")
    base, longer = divmod(total, pp)
    ends = np.cumsum([base + (stage < longer) for stage in range(pp)])
    return [slice(int(end - base - (i < longer)), int(end)) for i, end in enumerate(ends)]
