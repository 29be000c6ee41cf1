"""`plumbline profile offload`: run one policy and report what it took, as Records."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from analyzer.errors import ConfigError
from analyzer.offload_policy import TIERS, OffloadPolicy
from analyzer.records import Provenance, Record, Scenario
from profilers.offload.engine import BlockRun, Generated, OffloadEngine
from profilers.offload.sampling import Sampling
from profilers.offload.timeline import (
    Span,
    StageTotal,
    Times,
    spans,
    stage_totals,
    times,
    write_trace,
)


class OffloadOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that the command can be told. Percents: weights, KV, activations on GPU, CPU."""

    model: str
    percent: tuple[float, float, float, float, float, float] = (100, 0, 100, 0, 100, 0)
    gpu_batch_size: int = 4
    num_gpu_batches: int = 1
    prompt_len: int = 512
    gen_len: int = 32
    overlap: bool = True
    pin_weights: bool = True
    cpu_cache_compute: bool = False
    weight_bits: int = 16
    kv_bits: int = 16
    offload_dir: str = "offload"
    random_weights: bool = False
    device: str = "auto"
    dtype: str = "bfloat16"
    seed: int = 0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop: tuple[int, ...] = ()
    repeats: int = 1
    warmup: bool = True
    trace: str | None = None
    emulate: dict[str, float] = {}
    """Emulated links: bytes/s of h2d, d2h, disk_read, disk_write, cpu; FLOP/s of gpu."""
    latency_s: float = 0.0
    hardware: str = ""

    @property
    def policy(self) -> OffloadPolicy:
        """The policy that the options spell out."""
        return OffloadPolicy.from_percent(
            self.percent,
            gpu_batch=self.gpu_batch_size,
            num_gpu_batches=self.num_gpu_batches,
            overlap=self.overlap,
            cpu_attention=self.cpu_cache_compute,
            weight_bits=self.weight_bits,
            kv_bits=self.kv_bits,
        )


class OffloadProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One profiled policy: realised placement, times, totals per stage, Records."""

    realised_B: dict[str, dict[str, int]]
    times: Times
    stages: list[StageTotal]
    streams_B: dict[str, int]
    counted_B: dict[str, int]
    records: list[Record]
    device: str


def run_profile(options: OffloadOptions) -> OffloadProfile:
    """Run the policy on random prompts; the last repeat gives the timeline and the totals."""
    _check(options)
    with OffloadEngine(
        options.model,
        options.policy,
        offload_dir=options.offload_dir,
        device=options.device,
        dtype=options.dtype,
        random_weights=options.random_weights,
        pin_weights=options.pin_weights,
        seed=options.seed,
        rates=options.emulate,
        latency_s=options.latency_s,
    ) as engine:
        if options.warmup:
            _generate(engine, options, min(2, options.gen_len))
        runs = [
            _generate(engine, options, options.gen_len).blocks[0] for _ in range(options.repeats)
        ]
        return _report(engine, options, runs)


def _check(options: OffloadOptions) -> None:
    for name in ("prompt_len", "gen_len", "repeats"):
        if getattr(options, name) < 1:
            raise ConfigError(f"{name} must be at least 1, not {getattr(options, name)}")


def _generate(engine: OffloadEngine, options: OffloadOptions, steps: int) -> Generated:
    import torch

    generator = torch.Generator().manual_seed(options.seed)
    shape = (engine.policy.block, options.prompt_len)
    ids = torch.randint(0, engine.spec.dims.vocab, shape, generator=generator)
    sampling = Sampling(
        sample=options.do_sample,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        seed=options.seed,
    )
    return engine.generate(ids, steps, sampling=sampling, stop=options.stop)


def _report(engine: OffloadEngine, options: OffloadOptions, runs: list[BlockRun]) -> OffloadProfile:
    done = [spans(run.tickets, run.start_s, run.base) for run in runs]
    if options.trace:
        write_trace(done[-1], Path(options.trace))
    walls = [times(part) for part in done]
    totals = stage_totals(done[-1])
    plan = runs[-1].plan
    streams: dict[str, int] = {}
    for total in totals:
        if total.link not in ("gpu", "cpu"):
            name = f"{total.stage}.{total.link}"
            streams[name] = streams.get(name, 0) + total.moved_B
    return OffloadProfile(
        realised_B={
            "weights": dict(zip(TIERS, plan.weight_B(), strict=True)),
            "kv": dict(zip(TIERS, plan.kv_B(options.gen_len), strict=True)),
        },
        times=walls[-1],
        stages=totals,
        streams_B={name: size for name, size in streams.items() if size},
        counted_B={f"{stage}.{link}": size for (stage, link), size in runs[-1].counted.items()},
        records=_records(engine, options, walls, done[-1], totals),
        device=str(engine.device),
    )


def _records(
    engine: OffloadEngine,
    options: OffloadOptions,
    walls: list[Times],
    done: list[Span],
    totals: list[StageTotal],
) -> list[Record]:
    steps = 1 + max(span.at[0] for span in done)
    rows, wall = engine.policy.block, walls[-1]
    metrics = {
        "ttft_s": wall.prefill_s,
        "e2e_s": wall.wall_s,
        "prefill_tok_s": rows * options.prompt_len / wall.prefill_s,
        "output_tok_s": rows * steps / wall.wall_s,
        "exposed_wait_s": wall.exposed_wait_s,
        "gpu_busy_s": wall.gpu_busy_s,
    }
    if steps > 1:
        metrics["tpot_s"] = wall.decode_s / (steps - 1)
        metrics["decode_tok_s"] = rows * (steps - 1) / wall.decode_s
    case = _case(engine, options)
    scenario = _scenario(engine, options, steps)
    whole = Record(
        kind="offload",
        metrics=metrics,
        samples={"e2e_s": tuple(each.wall_s for each in walls)},
        provenance=_provenance(options),
        scenario=scenario,
        case={**case, "stage": "run"},
        repeats=len(walls),
    )
    return [whole, *(_stage_record(total, case, scenario, options) for total in totals)]


def _stage_record(
    total: StageTotal, case: Mapping[str, Any], scenario: Scenario, options: OffloadOptions
) -> Record:
    metrics = {
        "busy_s": total.busy_s,
        "latency_s": total.median_s,
        "latency_p95_s": total.p95_s,
        "moved_B": float(total.moved_B),
        "jobs_count": float(total.count),
    }
    if total.work > 0 and total.busy_s > 0:
        metrics["rate_FLOPps" if total.link == "gpu" else "bandwidth_Bps"] = total.rate
    place = {"stage": total.stage, "link": total.link, "phase": total.phase}
    return Record(
        kind="offload",
        metrics=metrics,
        provenance=_provenance(options),
        scenario=scenario,
        case={**case, **place},
    )


def _provenance(options: OffloadOptions) -> Provenance:
    emulated = ", links emulated" if options.emulate else ""
    return Provenance(source=f"plumbline profile offload{emulated}")


def _scenario(engine: OffloadEngine, options: OffloadOptions, steps: int) -> Scenario:
    return Scenario(
        hardware=options.hardware,
        gpus=1 if engine.device.type == "cuda" else None,
        model=options.model,
        engine="plumbline-offload",
        weight_precision=_precision(options.weight_bits, options.dtype),
        kv_precision=_precision(options.kv_bits, options.dtype),
        concurrency=engine.policy.block,
        input_tokens=options.prompt_len,
        output_tokens=steps,
    )


def _precision(bits: int, dtype: str) -> str:
    return dtype if bits == 16 else f"int{bits}-group"


def _case(engine: OffloadEngine, options: OffloadOptions) -> dict[str, Any]:
    emulated = {f"emulated_{name}": rate for name, rate in options.emulate.items()}
    return {
        "percent": " ".join(f"{value:g}" for value in options.percent),
        "gpu_batch": options.gpu_batch_size,
        "num_gpu_batches": options.num_gpu_batches,
        "overlap": options.overlap,
        "cpu_attention": options.cpu_cache_compute,
        "device": engine.device.type,
        **emulated,
    }
