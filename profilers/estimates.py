"""What a measurement will cost in wall time, from a machine's rough speeds."""

from __future__ import annotations

from profilers.cases import Machine
from profilers.options import Options
from profilers.stopping import Rules

LARGE_FLOPS = 5e12
RETAKES = 1.3
OVERHEAD_S = 0.05
FORMAT_B = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "int8": 1.0, "fp8": 1.0, "int4": 0.53}


def call_s(machine: Machine, dtype: str, flops: float, moved_B: float) -> float:
    """Rough time of one call: its arithmetic and its traffic one after the other, and a launch."""
    speed = machine.flops.get(dtype) or max(machine.flops.values(), default=1e10)
    return machine.launch_s + flops / speed + moved_B / machine.bandwidth_Bps


def measuring_s(call: float, rules: Rules, machine: Machine, cold: bool = False) -> float:
    """Rough wall time of warm-up, samples, cache flushes and re-takes of a call."""
    flush = 3 * machine.cache_B / machine.bandwidth_Bps if cold else 0.0
    step = call + flush
    warmup = max(2 * step, min(rules.warmup_s, 20 * step))
    sampling = max(rules.min_samples * step, rules.min_time_s, rules.block_s)
    return OVERHEAD_S + RETAKES * (warmup + min(sampling, rules.cap_s + step))


def build_s(machine: Machine, weights_B: float) -> float:
    """Rough time to make a model with random weights: one pass over its memory and some Python."""
    return 0.5 + 20 * weights_B / machine.bandwidth_Bps


def size_of(options: Options, machine: Machine) -> str:
    """`small` or `large` by what the machine can do, unless the user said."""
    if options.size != "auto":
        return options.size
    return "large" if max(machine.flops.values(), default=0.0) > LARGE_FLOPS else "small"


def model_formats(options: Options, machine: Machine) -> tuple[str, ...]:
    """Formats that whole models run in: as asked, else bf16, and fp32 too on a CPU."""
    usual = ("bf16", "fp32") if machine.device == "cpu" else ("bf16",)
    return tuple(name for name in (options.dtypes or usual) if name in machine.formats)
