"""Run policies on emulated links (disk and CPU attention are real) and forecast the same runs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import torch

from analyzer.offload import forecast_plan
from analyzer.offload_counts import BlockPlan
from analyzer.offload_machine import OffloadMachine
from analyzer.offload_policy import OffloadPolicy
from calibration.offload_fit import Observation
from profilers.offload.engine import OffloadEngine
from profilers.offload.timeline import spans, times

CONFIG = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1536,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "vocab_size": 1024,
    "rms_norm_eps": 1e-5,
    "tie_word_embeddings": False,
}
PROMPT, STEPS = 16, 8
LINK_BPS, GPU_FLOPS = 250e6, 5e9
RATES = {"h2d": LINK_BPS, "d2h": LINK_BPS, "gpu": GPU_FLOPS}
EMULATED = OffloadMachine(
    h2d_Bps=LINK_BPS,
    d2h_Bps=LINK_BPS,
    disk_read_Bps=1e9,
    disk_write_Bps=3e8,
    hbm_Bps=1e15,
    gpu_flops=GPU_FLOPS,
    attention_flops=GPU_FLOPS,
    cpu_attention_Bps=1e9,
    job_overhead_s=3e-4,
)
FITTED = ["job_overhead_s", "disk_read_Bps", "disk_write_Bps", "cpu_attention_Bps"]


def policies(count: int, seed: int = 5) -> list[OffloadPolicy]:
    """Random policies: placements, batches, CPU attention, with and without overlap."""
    pick = random.Random(seed)  # noqa: S311 - a fixed choice of cases
    weights = ((0, 100), (50, 50), (0, 50), (0, 0), (100, 0), (20, 60))
    kv = ((100, 0), (0, 100), (0, 0), (50, 50), (40, 30))
    activations = ((100, 0), (100, 0), (0, 100), (50, 25))
    batches = ((4, 3), (2, 4), (8, 1), (6, 2), (12, 1))
    made = []
    for _ in range(count):
        percent = [*pick.choice(weights), *pick.choice(kv), *pick.choice(activations)]
        batch = pick.choice(batches)
        made.append(
            OffloadPolicy.from_percent(
                percent,
                gpu_batch=batch[0],
                num_gpu_batches=batch[1],
                cpu_attention=pick.random() < 0.5,
                overlap=pick.random() < 0.7,
            )
        )
    return made


@dataclass(frozen=True)
class Measured:
    """One policy: its plan and the shortest wall of a few runs."""

    plan: BlockPlan
    wall_s: float

    def predict(self, machine: OffloadMachine) -> float:
        """Forecast seconds of the whole run."""
        return float(forecast_plan(self.plan, STEPS, machine).total_s)

    @property
    def observation(self) -> Observation:
        """For the fit."""
        return Observation(self.wall_s, self.predict)


def measure(policy: OffloadPolicy, folder: Path, repeats: int = 3) -> Measured:
    """The shortest of a few runs: what others do on the machine can only lengthen one."""
    ids = torch.randint(0, 1024, (policy.block, PROMPT), generator=torch.Generator().manual_seed(0))
    walls = []
    with OffloadEngine(
        CONFIG, policy, random_weights=True, dtype="float32", device="cpu",
        offload_dir=folder / "spill", rates=RATES,
    ) as engine:  # fmt: skip
        for _ in range(repeats):
            run = engine.generate(ids, STEPS).blocks[0]
            walls.append(times(spans(run.tickets, run.start_s)).wall_s)
    return Measured(run.plan, min(walls))
