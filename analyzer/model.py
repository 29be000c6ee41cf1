"""The architecture of a model: sizes and layer kinds, and nothing about any machine.

A `Model` is a tuple of `Layer`s; a `Layer` is a token mixer and a feed-forward part, either of
which may be absent. Each kind is one frozen type here and one file in `counting/`, where what it
costs is worked out. Only `hf.py` knows how Hugging Face names these sizes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal

import msgspec


class Kind(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every layer kind: immutable, hashable, strict about its fields."""


class Linear(Kind, frozen=True, kw_only=True):
    """A matrix multiplication beside the mixer and the FFN, that every token goes through."""

    inputs: int
    outputs: int
    bias: bool = False


class Table(Kind, frozen=True, kw_only=True):
    """A look-up table beside the token embedding: a token reads one row of it."""

    rows: int
    width: int


class Indexer(Kind, frozen=True, kw_only=True):
    """Trained selection of the keys that sparse attention reads (DeepSeek-V3.2, GLM-5)."""

    heads: int
    head_dim: int
    top_k: int
    """Keys that a query reads; entries of the compressed cache in `CompressedAttention`."""
    key_norm: bool = True
    """A LayerNorm (weight and bias) on the index keys."""
    block: int = 1
    """Keys are chosen in blocks of this many (MiniMax-M3: 128); `top_k` still counts keys."""
    rms_norms: bool = False
    """RMS norms on index queries and keys instead of `key_norm` (MiniMax-M3)."""
    from_latent: bool = True
    """Index queries come from the query latent; otherwise from the hidden state."""
    head_weights: bool = True
    """A projection from the hidden state to one weight per index head."""
    reused: bool = False
    """True where the layer takes over the choice of the layer before: no parameters, no scores."""


class Attention(Kind, frozen=True, kw_only=True):
    """Softmax attention with its own keys and values: MHA, MQA, GQA, windowed or not."""

    heads: int
    kv_heads: int
    head_dim: int
    v_head_dim: int | None = None
    q_bias: bool = False
    k_bias: bool = False
    v_bias: bool = False
    o_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    window: int | None = None
    """Keys that a query may reach back to; None: all of them."""
    sinks: bool = False
    rope: bool = True
    output_gate: Literal["none", "head", "full"] = "none"
    shares_kv: bool = False
    """True where the layer reads another layer's cache and has no key or value projection."""
    key_is_value: bool = False
    """True where one projection serves as key and as value."""
    indexer: Indexer | None = None
    input_width: int | None = None
    """Width of what queries, keys and values are projected from, where not `hidden` (Zamba2)."""
    chunked: bool = False
    """True where `window` is a fixed block: a query reaches back to its start only (Llama-4)."""
    merged: bool = False
    """True where transformers, too, keeps queries, keys and values in one matrix."""
    cross: bool = False
    """True where keys come from an image encoder; a text-only pass skips the whole layer."""


class MLA(Kind, frozen=True, kw_only=True):
    """Multi-head latent attention (DeepSeek): the cache holds one latent per token."""

    heads: int
    q_lora_rank: int | None
    kv_lora_rank: int
    nope_dim: int
    rope_dim: int
    v_dim: int
    qkv_bias: bool = False
    """Biases on the down-projections of query and key and on the output projection."""
    indexer: Indexer | None = None
    output_gate: bool = False
    """A projection of the hidden state that gates the heads' outputs (Kimi-K3)."""
    rope: bool = True


class CompressedAttention(Kind, frozen=True, kw_only=True):
    """Attention of DeepSeek-V4: one shared key-value head that serves as key and as value, a
    sliding window of raw entries, and one entry for every `ratio` tokens beyond it.

    Queries go through a latent, outputs through `o_groups` groups of rank `o_rank`.
    """

    heads: int
    head_dim: int
    rope_dim: int
    q_lora_rank: int
    o_groups: int
    o_rank: int
    window: int
    ratio: int | None = None
    """Tokens per compressed entry; None: the sliding window is all there is."""
    overlap: bool = False
    """True where an entry mixes two neighbouring windows, so projections are twice as wide."""
    indexer: Indexer | None = None
    """Chooses compressed entries; it keeps compressed index keys of its own."""


class Mamba1(Kind, frozen=True, kw_only=True):
    """Selective state space, one state vector per channel."""

    inner: int
    state: int
    conv: int
    dt_rank: int
    conv_bias: bool = True
    proj_bias: bool = False
    inner_norms: bool = False
    """Jamba normalises dt, B and C."""


class Mamba2(Kind, frozen=True, kw_only=True):
    """State-space duality: heads of `head_dim` channels that share a scalar decay."""

    inner: int
    heads: int
    head_dim: int
    groups: int
    state: int
    conv: int
    conv_bias: bool = True
    proj_bias: bool = False
    gated_norm: bool = True


class GatedDelta(Kind, frozen=True, kw_only=True):
    """Gated delta rule (Qwen3-Next, Qwen3.5) and its per-channel form, Kimi Delta Attention."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: int
    per_channel_decay: bool = False
    """True for Kimi Delta Attention; then low-rank gates of width `gate_rank`."""
    gate_rank: int = 0
    full_rank_gate: bool = False
    """True where the output gate is one full projection, the decay still low-rank (Kimi-K3)."""


class Lightning(Kind, frozen=True, kw_only=True):
    """Linear attention with a fixed decay per head (MiniMax)."""

    heads: int
    head_dim: int


class ShortConv(Kind, frozen=True, kw_only=True):
    """Gated short convolution (LFM2): `width` channels, one filter of length `conv` for each."""

    width: int
    conv: int
    bias: bool = False


Mixer = Attention | MLA | CompressedAttention | Mamba1 | Mamba2 | GatedDelta | Lightning | ShortConv


class DenseFFN(Kind, frozen=True, kw_only=True):
    """Two matrices, or three when gated."""

    width: int
    gated: bool = True
    bias: bool = False
    activation_kernels: int = 1
    """Kernels of an eager engine's activation: one for each step where it is written out."""


class MoE(Kind, frozen=True, kw_only=True):
    """Routed experts, with experts that every token visits beside them."""

    experts: int
    top_k: int
    width: int
    gated: bool = True
    bias: bool = False
    router_bias: bool = False
    router_correction: bool = False
    """A bias per expert that steers the choice and not the weight (DeepSeek-V3)."""
    shared_width: int = 0
    """Sum of the widths of the experts that every token visits."""
    shared_gate: bool = False
    latent: int | None = None
    """Width that tokens are projected to before the experts and back after (Nemotron-3)."""
    hashed: bool = False
    """True where a table of token ids picks the experts and the router only weighs them."""


FFN = DenseFFN | MoE


class Layer(Kind, frozen=True, kw_only=True):
    """One decoder layer."""

    mixer: Mixer | None
    ffn: FFN | None
    norms: int = 2
    """Normalisations of the residual stream in this layer."""
    norm_params: int = 0
    """Their parameters together."""
    parallel: bool = False
    """Mixer and FFN read the same input and are added together (Falcon, GPT-J)."""
    weights_shared: bool = False
    """True where mixer, FFN and norms are another layer's (Zamba2): read again, stored once."""
    extra_params: int = 0
    """Parameters outside mixer, FFN and norms that no matrix multiplication reads whole."""
    linears: tuple[Linear, ...] = ()
    """Further matrix multiplications of every token; the layer's own even if weights are shared."""
    beside: Mixer | None = None
    """A second mixer on the same input, whose output is added (Falcon-H1)."""


class Model(Kind, frozen=True, kw_only=True):
    """A decoder-only language model."""

    name: str
    hidden: int
    vocab: int
    layers: tuple[Layer, ...]
    tied_embeddings: bool = False
    max_context: int | None = None
    positions: int | None = None
    """Positions that tables are made for, where not `max_context`."""
    embedding_dim: int | None = None
    """Width of the embedding where it differs from `hidden` (OPT-350M)."""
    learned_positions: int = 0
    input_major: bool = False
    """Transformers keeps the layers' matrices input by input (its Conv1D)."""
    lm_head_bias: bool = False
    final_norm_params: int = 0
    extra_params: int = 0
    """Parameters outside the layers, embeddings, head and norms."""
    architecture: str = ""
    native_weights: str = "bf16"
    """Format of the released weights (see precision.py)."""
    native_dense_weights: str | None = None
    """Format of all but the routed experts, where it differs (gpt-oss: mxfp4 experts, bf16)."""
    prediction_layers: tuple[Layer, ...] = ()
    """Multi-token-prediction layers: a draft model of its own, not part of `layers`."""
    linears: tuple[Linear, ...] = ()
    """Matrix multiplications of every token, once per pass, outside the layers."""
    tables: tuple[Table, ...] = ()
    """Look-up tables besides the token embedding and the learned positions."""
    residual_streams: int = 1
    """Copies of the hidden state that run through the layers (DeepSeek-V4, Gemma-3n)."""

    @staticmethod
    def from_hf(source: Mapping[str, object] | str | os.PathLike[str]) -> Model:
        """The model that a Hugging Face configuration describes.

        `source` is a parsed `config.json`, a path to one or to its folder, a name of the catalog,
        or a hub id (which needs `huggingface_hub` and a network when the catalog lacks it).
        """
        from analyzer.models_catalog import load

        return load(source)

    def unlimited(self) -> Model:
        """The model as if it could read any length; its tables are as long as they are."""
        positions = self.positions or self.max_context
        return msgspec.structs.replace(self, max_context=None, positions=positions)

    def layer_groups(self) -> dict[Layer, int]:
        """Distinct layers and how often each occurs, in order of first appearance."""
        counts: dict[Layer, int] = {}
        for layer in self.layers:
            counts[layer] = counts.get(layer, 0) + 1
        return counts
