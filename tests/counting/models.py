"""Small models of every kind of layer, built by hand."""

from __future__ import annotations

from analyzer.model import (
    FFN,
    MLA,
    Attention,
    CompressedAttention,
    DenseFFN,
    GatedDelta,
    Indexer,
    Layer,
    Lightning,
    Linear,
    Mamba1,
    Mamba2,
    Mixer,
    Model,
    MoE,
    ShortConv,
)

HIDDEN = 96
GQA = Attention(heads=8, kv_heads=4, head_dim=16)
LOCAL = Attention(heads=8, kv_heads=4, head_dim=16, window=24, qk_norm="head", sinks=True)
BLOCKS = Attention(heads=8, kv_heads=8, head_dim=16, window=20, chunked=True)
GATED = Attention(heads=8, kv_heads=1, head_dim=16, output_gate="full", rope=False)
PICKED = Attention(heads=8, kv_heads=4, head_dim=16, indexer=Indexer(heads=2, head_dim=8, top_k=16))
LATENT = MLA(heads=8, q_lora_rank=40, kv_lora_rank=32, nope_dim=16, rope_dim=8, v_dim=16)
LATENT_PICKED = MLA(
    heads=8,
    q_lora_rank=None,
    kv_lora_rank=32,
    nope_dim=16,
    rope_dim=8,
    v_dim=16,
    indexer=Indexer(heads=2, head_dim=8, top_k=16, from_latent=False),
)
PACKED = CompressedAttention(
    heads=8,
    head_dim=16,
    rope_dim=8,
    q_lora_rank=24,
    o_groups=8,
    o_rank=8,
    window=24,
    ratio=4,
    overlap=True,
    indexer=Indexer(heads=2, head_dim=8, top_k=6),
)
S6 = Mamba1(inner=192, state=12, conv=4, dt_rank=6)
SSD = Mamba2(inner=192, heads=8, head_dim=24, groups=8, state=12, conv=4)
DELTA = GatedDelta(key_heads=8, value_heads=16, key_dim=8, value_dim=10, conv=4)
KDA = GatedDelta(
    key_heads=8,
    value_heads=8,
    key_dim=8,
    value_dim=8,
    conv=4,
    per_channel_decay=True,
    gate_rank=8,
)
DENSE = DenseFFN(width=160)
EXPERTS = MoE(experts=16, top_k=3, width=64)
SHARED = MoE(experts=16, top_k=3, width=64, shared_width=32, shared_gate=True)
NARROW = MoE(experts=16, top_k=3, width=64, latent=48, gated=False)


def model(*layers: tuple[Mixer | None, FFN | None], name: str = "small") -> Model:
    """A model of the given layers."""
    return Model(
        name=name,
        hidden=HIDDEN,
        vocab=240,
        layers=tuple(Layer(mixer=mixer, ffn=ffn, norm_params=2 * HIDDEN) for mixer, ffn in layers),
        final_norm_params=HIDDEN,
    )


MODELS: dict[str, Model] = {
    "dense": model((GQA, DENSE), (GQA, DENSE)),
    "local": model((LOCAL, DENSE), (GQA, DENSE), (LOCAL, DENSE)),
    "blocks": model((BLOCKS, DENSE), (GATED, EXPERTS)),
    "picked": model((PICKED, DENSE), (LATENT_PICKED, SHARED)),
    "latent": model((LATENT, DENSE), (LATENT, SHARED)),
    "packed": model((PACKED, EXPERTS)),
    "experts": model((GQA, EXPERTS), (GQA, NARROW)),
    "mamba": model((S6, None), (SSD, EXPERTS), (SSD, DENSE)),
    "linear": model((DELTA, DENSE), (KDA, DENSE), (Lightning(heads=8, head_dim=16), DENSE)),
    "filter": model((ShortConv(width=96, conv=3), DENSE), (None, DENSE), (GQA, None)),
}
MODELS["parallel"] = Model(
    name="parallel",
    hidden=HIDDEN,
    vocab=240,
    embedding_dim=48,
    linears=(Linear(inputs=48, outputs=96), Linear(inputs=96, outputs=48)),
    tied_embeddings=True,
    learned_positions=64,
    layers=(
        Layer(mixer=GQA, ffn=DENSE, norms=1, norm_params=HIDDEN, parallel=True),
        Layer(mixer=GQA, ffn=DENSE, beside=SSD, linears=(Linear(inputs=96, outputs=96),)),
    ),
)
