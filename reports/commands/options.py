"""Words of the command line that several commands share, and the nouns that they stand for."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path

import msgspec

from analyzer import basis
from analyzer.answer import formats
from analyzer.basis import Basis
from analyzer.counting.routing_trace import read_routing
from analyzer.engines import ENGINES, engine
from analyzer.errors import ConfigError, nearest
from analyzer.holdings import holding_name
from analyzer.model import Model
from analyzer.models_catalog import load as load_model
from analyzer.plan import LoRA, Offload, Plan, Speculation
from analyzer.records_engine import EXACT, engine_class, release
from analyzer.releases import asynchronous
from analyzer.system import System
from analyzer.systems_catalog import load_system

_KEPT = {"host": "in the host's memory", "disk": "on disk"}


def declare_question(parser: ArgumentParser) -> None:
    """Model and system."""
    parser.add_argument("--model", help="catalog name, hub id, or a config.json")
    parser.add_argument("--system", help="catalog name, a .toml file, or auto for this machine")
    parser.add_argument("--network", metavar="FILE", help="ASTRA-sim style links in its place")


def declare_plan(parser: ArgumentParser) -> None:
    """Parallelism, formats, and what the engine does."""
    layout = parser.add_argument_group("layout")
    for name, meaning in (
        ("--tp", "tensor-parallel ranks of one pipeline stage"),
        ("--pp", "pipeline stages"),
        ("--dp", "independent replicas"),
        ("--ep", "ranks, among the tp ranks, that whole experts are dealt to"),
        ("--attention-dp", "groups of the tp ranks that hold whole sequences in attention"),
    ):
        layout.add_argument(name, type=int, default=1, metavar="N", help=meaning)
    layout.add_argument("--sequence-parallel", action="store_true", help="shard norms as well")
    stored = parser.add_argument_group("formats (bf16, fp8, int4-awq-g128, nvfp4, ...)")
    for name in ("--weights", "--kv", "--activations", "--compute"):
        stored.add_argument(name, default="", metavar="FORMAT")
    runs = parser.add_argument_group("engine")
    runs.add_argument("--engine", default="", help="vllm, tensorrt-llm, sglang, transformers, ...")
    runs.add_argument("--chunk", type=int, metavar="TOKENS", help="prompt tokens per step")
    runs.add_argument(
        "--overlap", type=int, default=1, metavar="N", help="micro-batches that hide communication"
    )
    experts = runs.add_mutually_exclusive_group()
    experts.add_argument(
        "--routing-skew", type=float, default=0.0, metavar="S", help="power law of experts' use"
    )
    experts.add_argument(
        "--routing-trace", metavar="FILE", help="CSV of expert, tokens (and layer): a real one"
    )
    runs.add_argument(
        "--poll-steps", type=int, metavar="N", help="decode steps between looks at what arrived"
    )
    runs.add_argument("--spec-tokens", type=int, metavar="N", help="tokens drafted per step")
    runs.add_argument("--acceptance", type=float, metavar="P", help="chance that one is accepted")
    runs.add_argument("--draft", metavar="MODEL", help="draft model; none: drafting is free")
    runs.add_argument("--lora-rank", type=int, metavar="R", help="rank of unmerged adapters")
    runs.add_argument("--lora-adapters", type=int, default=1, metavar="N", help="active at once")
    beside = parser.add_argument_group(
        "offloading (shares of 0 to 1; plumbline search --offload finds the best)"
    )
    for name in ("weights-host", "weights-disk", "kv-host", "kv-disk"):
        what, _, where = name.partition("-")
        meaning = f"share of the {'cache' if what == 'kv' else what} kept {_KEPT[where]}"
        beside.add_argument(f"--{name}", type=float, default=0.0, metavar="SHARE", help=meaning)


def declare_basis(parser: ArgumentParser) -> None:
    """Where rates come from."""
    group = parser.add_argument_group("rates (default: the calibration of the system)")
    one = group.add_mutually_exclusive_group()
    one.add_argument("--system-eff", type=float, metavar="E", help="one efficiency in (0, 1]")
    one.add_argument("--uncalibrated", action="store_true", help="0.6 of every peak")
    one.add_argument("--ideal", action="store_true", help="the speed of light")
    one.add_argument("--rates", metavar="FILE", help="a calibration, or rates by name, as TOML")


def declare_sources(parser: ArgumentParser) -> None:
    """Who is asked for operators' times."""
    group = parser.add_argument_group("sources of operators' times (default: the rates)")
    group.add_argument(
        "--source", default="", metavar="LADDER", help="table,analytic; see plumbline sources"
    )
    group.add_argument(
        "--software", default="", metavar="NAME", help="whose measured kernels, e.g. vllm"
    )


def with_sources(options: Namespace, chosen: Basis, system: System) -> Basis:
    """The basis with the sources that the options name in front of its rates."""
    if not options.source:
        if options.software:
            raise ConfigError("--software needs --source: it says whose measured kernels are meant")
        return chosen
    if "measured" in options.source:
        from reports.measuring import offer

        offer(system, options.source)
    return basis.with_sources(chosen, system, options.source, options.software)


def model_of(options: Namespace) -> Model:
    """The model that is asked about."""
    return load_model(_given(options, "model"))


def system_of(options: Namespace) -> tuple[System, tuple[str, ...]]:
    """The system that is asked about, and what was assumed where it was recognised."""
    found, assumed = system_called(_given(options, "system"))
    if not getattr(options, "network", None):
        return found, assumed
    from analyzer.network.astra import read_dimensions
    from analyzer.network.forms import with_network

    path = Path(options.network)
    joined = with_network(found, read_dimensions(path), path.name)
    return joined, (*assumed, f"links as {path.name} has them, not the system's own")


def system_called(name: str) -> tuple[System, tuple[str, ...]]:
    """The system of that name, and what was assumed where it is this machine."""
    if name != "auto":
        return load_system(name), ()
    from analyzer.calibrated import own_folder
    from analyzer.detect import this_system

    # Whoever asks about this machine wants what was measured on it.
    os.environ.setdefault("PLUMBLINE_RATES", str(own_folder()))
    found = this_system()
    return found.system, (f"recognised {found.system.name}", *found.assumptions)


def _given(options: Namespace, name: str) -> str:
    value: str | None = getattr(options, name)
    if not value:
        raise ConfigError(f"--{name} is missing")
    return value


def engine_of(options: Namespace) -> str:
    """The class of the engine that is named; '' where none is."""
    if not options.engine:
        return ""
    name = engine_class(options.engine)
    if name not in ENGINES:
        raise ConfigError(f"unknown engine {options.engine!r}{nearest(options.engine, ENGINES)}")
    return name


def plan_of(options: Namespace, model: Model) -> Plan:
    """The plan that the options describe."""
    kind = engine(engine_of(options))
    version = release(options.engine or "")
    stored = formats(model, kind, options.weights, options.kv, options.activations)
    for name in ("tp", "pp", "dp", "ep", "attention_dp"):
        if getattr(options, name) < 1:
            raise ConfigError(f"{name} must be at least 1, not {getattr(options, name)}")
    return msgspec.structs.replace(
        stored,
        holding=holding_name(kind.name, version, variant=options.engine or ""),
        asynchronous=asynchronous(kind.name, version) if version else None,
        tp=options.tp,
        pp=options.pp,
        dp=options.dp,
        ep=options.ep,
        attention_dp=options.attention_dp,
        sequence_parallel=options.sequence_parallel,
        compute=options.compute,
        chunk_tokens=_at_least_one(options, "chunk"),
        poll_steps=_at_least_one(options, "poll_steps"),
        overlap=_overlap(options),
        routing_skew=_skew(options),
        routing=read_routing(options.routing_trace, model) if options.routing_trace else None,
        speculation=_speculation(options),
        lora=_lora(options),
        offload=_offload(options),
    )


def _at_least_one(options: Namespace, name: str) -> int | None:
    value: int | None = getattr(options, name)
    if value is not None and value < 1:
        raise ConfigError(f"{name.replace('_', '-')} must be at least 1, not {value}")
    return value


def _overlap(options: Namespace) -> int:
    if options.overlap < 1:
        raise ConfigError(f"overlap must be at least 1, not {options.overlap}")
    return int(options.overlap)


def _skew(options: Namespace) -> float:
    if not 0.0 <= options.routing_skew <= 8.0:
        raise ConfigError(f"routing-skew must lie in 0..8, not {options.routing_skew:g}")
    return float(options.routing_skew)


def _speculation(options: Namespace) -> Speculation | None:
    if options.spec_tokens is None:
        if options.draft is not None or options.acceptance is not None:
            raise ConfigError("--draft and --acceptance need --spec-tokens")
        return None
    if options.spec_tokens < 1:
        raise ConfigError(f"spec-tokens must be at least 1, not {options.spec_tokens}")
    if options.acceptance is None:
        raise ConfigError("--spec-tokens needs --acceptance, a chance from 0 to 1")
    if not 0.0 <= options.acceptance <= 1.0:
        raise ConfigError(f"acceptance must lie in 0..1, not {options.acceptance:g}")
    draft = load_model(options.draft) if options.draft else None
    return Speculation(tokens=options.spec_tokens, acceptance=options.acceptance, draft=draft)


def _lora(options: Namespace) -> LoRA | None:
    if options.lora_rank is None:
        return None
    for name in ("lora_rank", "lora_adapters"):
        if getattr(options, name) < 1:
            flag = name.replace("_", "-")
            raise ConfigError(f"{flag} must be at least 1, not {getattr(options, name)}")
    return LoRA(rank=options.lora_rank, adapters=options.lora_adapters)


def _offload(options: Namespace) -> Offload | None:
    shares = {name: getattr(options, name) for name in Offload.__struct_fields__}
    return Offload(**shares) if any(shares.values()) else None


def basis_of(options: Namespace, system: System, arrival: str) -> Basis:
    """The rates that the options choose."""
    if options.system_eff is not None:
        return basis.single(options.system_eff)
    if options.ideal:
        return basis.ideal()
    if options.uncalibrated:
        return basis.uncalibrated()
    if options.rates:
        return basis.given(options.rates)
    named = engine_of(options)
    if named and options.engine.strip().lower() not in EXACT:
        named = basis.generation(system, named, arrival)
    return basis.calibrated(system, named, arrival)
