"""What a step does and how it is laid out: the only two things that counting needs beside a model.

Every field may be a float or an array; arrays broadcast, so a million scenarios count at once.
"""

from __future__ import annotations

from typing import NamedTuple

from analyzer.counting.routing_trace import Routing
from analyzer.optable import COMPUTE_INDEX, Number
from analyzer.unpacking import AS_STORED, Unpacking


class Segment(NamedTuple):
    """Sequences of a step that are alike: a prefill chunk, a batch of decodes, a tree to verify."""

    sequences: Number
    new: Number
    """Query tokens per sequence in this step."""
    past: Number
    """Keys per sequence that were cached before this step."""
    pairs_within: Number | None = None
    """Query-key pairs among the new tokens of one sequence; None: causal, new·(new+1)/2."""
    sharing: Number = 1.0
    """Sequences that share one copy of the first `shared_past` keys (beams of one prompt)."""
    shared_past: Number = 0.0
    logits: Number = 1.0
    """Positions per sequence that need the head."""

    @property
    def keys(self) -> Number:
        """Keys per sequence once this step's are cached."""
        return self.past + self.new

    @property
    def causal(self) -> Number:
        """Query-key pairs among the new tokens of one sequence."""
        if self.pairs_within is not None:
            return self.pairs_within
        return self.new * (self.new + 1.0) / 2.0

    @property
    def tokens(self) -> Number:
        return self.sequences * self.new


class Step(NamedTuple):
    """One pass of the model over its segments; linear layers see all their tokens together."""

    segments: tuple[Segment, ...]

    @property
    def tokens(self) -> Number:
        return sum(segment.tokens for segment in self.segments)

    @property
    def logit_rows(self) -> Number:
        return sum(segment.sequences * segment.logits for segment in self.segments)


class Layout(NamedTuple):
    """How one model replica is cut over devices and stored. Bytes are per value."""

    tp: Number = 1.0
    """Ranks of the replica (of one pipeline stage): they share heads, columns and vocabulary."""
    ep: Number = 1.0
    """Groups of ranks that whole experts are dealt to; an expert's width is cut over tp/ep."""
    attention_dp: Number = 1.0
    """Groups of ranks that hold whole sequences; then all but the routed experts is cut over
    tp/attention_dp ranks only, and tokens meet again in the experts."""
    sequence_parallel: bool = False
    weight_B: Number = 2.0
    embedding_B: Number = 2.0
    head_B: Number | None = None
    """Bytes of the head's weights where they differ from the embedding's."""
    act_B: Number = 2.0
    kv_B: Number = 2.0
    state_B: Number = 2.0
    """Recurrent states; the convolutions' windows are kept as activations."""
    compute: Number = COMPUTE_INDEX["bf16"]
    """Arithmetic of linear layers (index in COMPUTE)."""
    attention_compute: Number = COMPUTE_INDEX["bf16"]
    head_compute: Number = COMPUTE_INDEX["bf16"]
    expert_weight_B: Number | None = None
    """Bytes of expert weights where they differ (mxfp4 experts in a bf16 model)."""
    expert_compute: Number | None = None
    unpacking: Unpacking = AS_STORED
    """How weights are widened that are stored in fewer bits than they are multiplied in."""
    quantise_activations: Number = 0.0
    """1 where activations are narrowed before each linear layer (fp8, int8, fp4)."""
    alike: Number = 0.0
    """1 where all sequences of a step are the same text, token by token."""
    routing_skew: Number = 0.0
    """0: routed tokens fall on experts uniformly; larger: power-law imbalance."""
    routing: Routing | None = None
    """Traced popularity of experts; in place of the skew."""
    absorb_mla: bool = True
    """Decode of latent attention in the absorbed form that servers run."""
    fused: bool = True
    """Norms, gates and residuals run as fused kernels (servers), not one by one (eager)."""
    flash: bool = True
    """Attention keeps its scores on chip; False: it writes them out and reads them again."""
    lora_rank: Number = 0.0
    lora_adapters: Number = 0.0
    """Distinct unmerged adapters that are active in a step."""
    expert_all_to_all: bool = True
    """With ep > 1: each rank sends its own tokens to the ranks of their experts and gets them back.
    False: every rank gathers all tokens and the partial sums are reduced (vLLM without DeepEP)."""
    cache_copies: Number = 0.0
    """Times that a step copies the whole cache (1: transformers' dynamic cache concatenates)."""
    windowed: bool = True
    """Sliding windows are applied; False: attention and cache hold the whole context all the same.
    Layers whose attention is cut into blocks are no sliding windows."""
    own_keys: bool = False
    """Attention reads keys for each query head, unless all heads share one."""
    kernels: float = 1.0
    """Kernels that are started for each that a server with fused ones starts."""
    expert_kernels: float = 0.0
    """Kernels, or host time as for so many, beside the products of a layer's routed experts."""
    shared_kernels: float = 0.0
    """Kernels more for attention whose query heads share keys."""
    gathers_products: bool = False
    """Every product of a layer is gathered in fp32 instead of two sums per layer (llama.cpp)."""
    split_heads: Number = 0.0
    """Queries of a step, sequences times heads, up to which decoding splits a sequence's keys among
    processors; 0: however many."""
    matrix_ratio: Number = 0.0
    """Query heads per KV head that decoding multiplies as one matrix; others go one by one."""
