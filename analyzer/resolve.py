"""From words to nouns: a row that names a model, a machine and an engine becomes a `Question`.

The same rules serve the command line, tables of scenarios and measured records, so that what is
fitted and what is predicted are one and the same thing.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from analyzer import precision
from analyzer.blocks import check_blocks
from analyzer.counting.parameters import count_parameters
from analyzer.engines import EngineClass, engine
from analyzer.errors import ConfigError
from analyzer.holdings import holding_name
from analyzer.model import Attention, Model
from analyzer.models_catalog import load as load_model
from analyzer.phases import Laid, lay
from analyzer.plan import Plan
from analyzer.quirks import poll_steps, prompt_chunk, server_options
from analyzer.records import Scenario
from analyzer.records_arrival import Arrival
from analyzer.records_engine import engine_class, release
from analyzer.releases import asynchronous
from analyzer.system import System
from analyzer.systems_catalog import load_system
from analyzer.workload import Workload


class Question(NamedTuple):
    """One scenario with every name looked up."""

    model: Model
    system: System
    plan: Plan
    workload: Workload
    arrival: Arrival
    engine: EngineClass

    @property
    def laid(self) -> Laid:
        """The model under the plan."""
        return lay(self.model, self.plan)


def question(scenario: Scenario, date: str = "") -> Question:
    """Look up every name of a scenario; raises ConfigError where one is unknown or missing."""
    model = load_model(_required(scenario, "model"))
    system = _system(scenario)
    kind = engine(engine_class(scenario.engine, scenario.engine_version, date))
    arrival = scenario.arrival or Arrival(kind="static")
    plan = _plan(scenario, model, system, kind)
    version = release(scenario.engine, scenario.engine_version)
    held = holding_name(kind.name, version, date, scenario.variant)
    ahead = asynchronous(kind.name, version, date)
    plan = msgspec.structs.replace(plan, holding=held or plan.holding, asynchronous=ahead)
    workload = Workload(
        batch=_count(scenario, "concurrency", 1.0),
        input_tokens=_count(scenario, "input_tokens"),
        output_tokens=_count(scenario, "output_tokens"),
    )
    return Question(model, system, plan, workload, arrival, kind)


CORES = {"Inferentia2": "Inferentia2-core", "Trainium1": "Trainium1-core"}
"""Chips of several cores, whose tensor parallelism is counted in cores."""


def _system(scenario: Scenario) -> System:
    system = load_system(_required(scenario, "hardware"))
    in_cores = (scenario.tp or 1) > (scenario.gpus or scenario.tp or 1)
    return load_system(CORES[system.name]) if in_cores and system.name in CORES else system


def _required(scenario: Scenario, name: str) -> str:
    value: str = getattr(scenario, name)
    if not value:
        raise ConfigError(f"{name} is missing")
    return value


def _count(scenario: Scenario, name: str, default: float | None = None) -> float:
    value = getattr(scenario, name)
    if value is None:
        if default is None:
            raise ConfigError(f"{name} is missing")
        return default
    return float(value)


def _plan(scenario: Scenario, model: Model, system: System, kind: EngineClass) -> Plan:
    attention_dp = scenario.attention_dp or 1
    ep = scenario.moe_ep or scenario.ep or 1
    tp = _ranks(scenario, ep)
    pp = scenario.pp or 1
    weights = weight_format(scenario.weight_precision, model)
    told = server_options(scenario)
    chunk = prompt_chunk(scenario)  # each is a call of its own then, which no other overlaps
    plan = Plan(
        tp=tp,
        pp=pp,
        dp=_replicas(scenario, tp * pp),
        ep=ep,
        attention_dp=attention_dp,
        weights=weights,
        activations=activation_format(weights),
        kv=cache_format(scenario.kv_precision, weights, kind),
        compute=compute_format("", weights, system),
        micro_batches=None if kind.pipelined else 1,
        chunk_tokens=chunk or kind.chunk_tokens,
        engine=kind.name,
        fused=kind.fused,
        flash=kind.flash,
        chunks_overlap=kind.chunks_overlap and chunk is None,
        poll_steps=poll_steps(scenario),
        step_tokens=told.step_tokens,
        places=told.places,
        batch_wait=told.batch_wait,
    )
    check_plan(plan, model, system)
    return plan


def _ranks(scenario: Scenario, ep: int) -> int:
    """Devices of one pipeline stage of one replica.

    Where a source counts expert parallelism beside a tensor parallelism of 1, the experts' ranks
    are the replica's, and attention is cut over them.
    """
    ranks = (scenario.tp or 1) * (scenario.attention_dp or 1)
    if ranks == 1 and ep > 1 and (scenario.gpus or ep) >= ep:
        return ep
    return ranks


def _replicas(scenario: Scenario, devices: int) -> int:
    """Replicas that the stated number of devices makes room for."""
    if scenario.gpus is None or scenario.gpus <= devices or scenario.gpus % devices:
        return 1
    return scenario.gpus // devices


def weight_format(stated: str, model: Model) -> str:
    """The format of the weights: as stated, else the released ones'."""
    if not stated:
        return model.native_weights
    if model.native_weights == "fp8-block" and precision.lookup(stated).name == "fp8":
        return "fp8-block"  # sources call both kinds of 8 bits fp8
    if model.native_weights == "mxfp4" and precision.lookup(stated).bits <= 4:
        return "mxfp4"
    return stated


def activation_format(weights: str) -> str:
    """16 bits beside narrower weights, else the format of the weights."""
    found = precision.lookup(weights)
    return found.name if found.name in ("fp32", "fp16", "bf16") else "bf16"


def cache_format(stated: str, weights: str, kind: EngineClass) -> str:
    """The cache's format: as stated, else what the engine does by itself."""
    if stated:
        return stated
    narrow = precision.lookup(weights).compute in ("fp8", "fp8-block", "fp4", "int8")
    return "fp8" if kind.narrow_kv and narrow else ""


def compute_format(stated: str, weights: str, system: System) -> str:
    """The format of the arithmetic: as stated, else empty for what the weights' own implies.

    Matrix units that take 4 bits take mxfp4 weights as they lie, beside activations of 8 bits;
    others multiply them in 16 bits.
    """
    if stated or weights != "mxfp4":
        return stated
    peaks = system.device.peak_flops
    return "fp8" if "fp4" in peaks and "fp8" in peaks else ""


def check_plan(plan: Plan, model: Model, system: System) -> None:
    """Refuse layouts that cannot be; one clear line each."""
    for name in ("tp", "pp", "dp", "ep", "attention_dp"):
        if getattr(plan, name) < 1:
            raise ConfigError(f"{name} must be at least 1, not {getattr(plan, name)}")
    if plan.tp % plan.attention_dp:
        raise ConfigError(
            f"attention_dp={plan.attention_dp} does not divide the {plan.tp} ranks of a replica"
        )
    if plan.tp % plan.ep:
        raise ConfigError(f"ep={plan.ep} does not divide the {plan.tp} ranks of a replica")
    if plan.pp > len(model.layers):
        raise ConfigError(f"pp={plan.pp} is more than the {len(model.layers)} layers")
    kind = engine(plan.engine)
    if not (kind.pads_heads or kind.uneven_heads):
        check_heads(plan, model)
    _check_experts(plan, model)
    check_blocks(plan, model)
    system.nodes_for(int(plan.devices))


def check_heads(plan: Plan, model: Model) -> None:
    """Refuse ranks that do not divide a model's heads."""
    local = plan.tp // plan.attention_dp
    for layer in dict.fromkeys(model.layers):
        heads = getattr(layer.mixer, "heads", None) or getattr(layer.mixer, "value_heads", None)
        if heads and heads % local:
            fits = [n for n in range(1, heads + 1) if heads % n == 0 and n <= 64]
            raise ConfigError(
                f"tp={local} does not divide the {heads} heads of {model.name}; "
                f"use one of {', '.join(map(str, fits))}"
            )
        if isinstance(layer.mixer, Attention):
            kv = layer.mixer.kv_heads
            if kv % local and local % kv:
                raise ConfigError(
                    f"tp={local} neither divides nor is a multiple of the {kv} KV heads of "
                    f"{model.name}"
                )


def _check_experts(plan: Plan, model: Model) -> None:
    if plan.ep == 1:
        return
    experts = {getattr(layer.ffn, "experts", 0) for layer in model.layers} - {0}
    if not experts:
        raise ConfigError(f"ep={plan.ep} but {model.name} has no experts; use ep=1")


def parameters(model: Model) -> tuple[int, int]:
    """All parameters and those that one token's pass touches."""
    counted = count_parameters(model)
    return counted.total, counted.active
