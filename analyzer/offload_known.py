"""Machines that published offload figures were taken on, with the source of every rate.

GiB/s in a source are converted here. `fitted` says which rates no source gives.
"""

from __future__ import annotations

from analyzer.offload_flexgen import FlexGenQuirks
from analyzer.offload_machine import OffloadMachine
from analyzer.offload_shapes import OffloadDims

GiB = 2.0**30

OPT_SIZES = {  # layers, hidden, heads; arXiv:2205.01068 table 1
    "opt-6.7b": (32, 4096, 32),
    "opt-30b": (48, 7168, 56),
    "opt-175b": (96, 12288, 96),
}


def opt_dims(name: str) -> OffloadDims:
    """The sizes of an OPT model by its published name."""
    layers, hidden, heads = OPT_SIZES[name]
    return OffloadDims(
        layers=layers,
        hidden=hidden,
        ffn=4 * hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        vocab=50272,
        gated=False,
        norm_bias=True,
        qkv_bias=True,
        o_bias=True,
        mlp_bias=True,
        tied=True,
        positions=2050,
    )


FLEXGEN_T4 = OffloadMachine(
    h2d_Bps=12e9,  # arXiv:2303.06865 section 1: CPU to GPU 12 GB/s
    d2h_Bps=4.82 * GiB,  # FlexLLMGen cost_model.py: gtoc hidden
    disk_read_Bps=2.92e9,  # fitted to the four runs with weights and cache on disk
    disk_write_Bps=1e9,  # arXiv:2303.06865 section 6: about 1 GB/s
    hbm_Bps=2.60e11,  # fitted; the T4's data sheet says 320 GB/s
    gpu_flops=21.24e12,  # FlexLLMGen cost_model.py: mm in prefill
    attention_flops=9.97e12,  # FlexLLMGen cost_model.py: bmm in prefill
    cpu_attention_Bps=1.01e10,  # fitted; FlexLLMGen cost_model.py says 12.3 GiB/s
    unit_overhead_s=50e-6,
    gpu_B=16e9,
    cpu_B=208e9,
    disk_B=1.5e12,
)
FLEXGEN_T4_QUIRKS = FlexGenQuirks(
    cache_store_Bps=0.97 * GiB,  # FlexLLMGen cost_model.py: gtoc cache
    cache_h2d_Bps=6e9,  # pageable memory: about half of the link
    hidden_d2h_Bps=4.82 * GiB,
    small_batch_loss=0.0328,  # FlexLLMGen cost_model.py: c2
)
