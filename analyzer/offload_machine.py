"""The rates and capacities that an offload forecast needs, in SI units."""

from __future__ import annotations

from dataclasses import dataclass, fields

from analyzer.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OffloadMachine:
    """What a machine reaches, not what its data sheet says; every rate may come from a fit.

    `gpu_flops` is the matrix rate and `attention_flops` that of prefill attention; a skinny
    product is bound by reading its weights at `hbm_Bps`. `cpu_attention_Bps` is KV bytes attended
    per second on the CPU. `unit_overhead_s` is paid by the GPU per unit and micro-batch,
    `job_overhead_s` by every single job. A capacity of 0 means that there is no such tier.
    """

    h2d_Bps: float
    d2h_Bps: float
    disk_read_Bps: float
    disk_write_Bps: float
    hbm_Bps: float
    gpu_flops: float
    attention_flops: float
    cpu_attention_Bps: float
    unit_overhead_s: float = 0.0
    job_overhead_s: float = 0.0
    gpu_B: float = float("inf")
    cpu_B: float = float("inf")
    disk_B: float = float("inf")

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            least = 0.0 if field.name.endswith(("overhead_s", "_B")) else 1e-300
            if not value >= least:
                raise ConfigError(f"{field.name} must be positive, not {value}")
