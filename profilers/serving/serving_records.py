"""From a run to the record that is stored."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from analyzer.records import Flag, Record, Scalar, Scenario
from analyzer.records_arrival import Arrival, ArrivalKind
from analyzer.workload_arrivals import (
    AllAtOnce,
    ClosedLoop,
    FromTrace,
    Load,
)
from profilers.results import provenance
from profilers.serving.generator import RunLog
from profilers.serving.measures import RunSummary
from profilers.serving.options import ServeOptions
from profilers.serving.server import ServerFacts

DEFINITIONS = {
    "ttft_s": "median over successful requests; scheduled time to the first event with text",
    "tpot_s": "median of (last token − first token) / (tokens counted by the server − 1)",
    "e2e_s": "median over successful requests; scheduled time to the last token",
    "output_tok_s": "tokens that the server counted, first scheduled time to the last end",
    "request_rate_s": "successful requests, first scheduled time to the last end",
}


def case_id(options: ServeOptions, load: Load) -> str:
    """Same case, same id: what was asked for, not how it came out."""
    server = options.server
    if server is not None:  # where the model lies is not part of the case
        server = msgspec.structs.replace(server, model=Path(server.model).name)
    asked = {"load": load, "model": options.target.model, "server": server}
    return hashlib.sha256(msgspec.json.encode(asked, order="sorted")).hexdigest()[:16]


def run_record(
    options: ServeOptions, load: Load, log: RunLog, summary: RunSummary, facts: ServerFacts
) -> Record:
    """One run as a record: medians, spreads, the times of every request, and doubts."""
    metrics = _metrics(summary)
    told = provenance(())
    definitions = {name: DEFINITIONS[name] for name in metrics if name in DEFINITIONS}
    return Record(
        kind="serving",
        metrics=metrics,
        provenance=msgspec.structs.replace(told, definitions=definitions),
        scenario=_scenario(options, load, summary, facts),
        case={
            "load": msgspec.json.encode(load).decode(),
            "endpoint": options.target.endpoint,
            **_config_of(options),
        },
        samples=_samples(log),
        spread=_spread(summary),
        repeats=summary.ok,
        flags=tuple(_flags(summary)),
        environment=facts.as_environment(),
    )


def _config_of(options: ServeOptions) -> dict[str, Scalar]:
    """The configuration of a local model, which its name alone would not tell."""
    config = Path(options.server.model) / "config.json" if options.server else None
    if config is None or not config.is_file():
        return {}
    return {"model_config": " ".join(config.read_text(encoding="utf-8").split())}


def _metrics(summary: RunSummary) -> dict[str, float]:
    latencies = summary.from_scheduled
    found = {
        "ttft_s": latencies.ttft,
        "e2e_s": latencies.e2e,
        "tpot_s": summary.tpot,
    }
    metrics = {name: each.percentiles.get("p50", each.mean) for name, each in found.items() if each}
    if summary.output_tokens_per_s:
        metrics["output_tok_s"] = summary.output_tokens_per_s
    if summary.request_rate_per_s:
        metrics["request_rate_s"] = summary.request_rate_per_s
    return metrics


def _spread(summary: RunSummary) -> dict[str, dict[str, float]]:
    latencies = summary.from_scheduled
    named = {"ttft_s": latencies.ttft, "e2e_s": latencies.e2e, "tpot_s": summary.tpot}
    return {
        name: {"mean": each.mean, "largest": each.largest, **each.percentiles}
        for name, each in named.items()
        if each is not None
    }


def _samples(log: RunLog) -> dict[str, tuple[float, ...]]:
    good = [outcome for outcome in log.outcomes if outcome.ok]
    return {
        "scheduled_s": tuple(o.scheduled_s for o in good),
        "sent_s": tuple(o.sent_s for o in good),
        "first_token_s": tuple(o.first_token_s or 0.0 for o in good),
        "last_token_s": tuple(o.chunk_s[-1] for o in good),
        "input_tokens_count": tuple(float(o.prompt_tokens or o.asked_input) for o in good),
        "output_tokens_count": tuple(float(o.output_tokens or len(o.chunk_s)) for o in good),
    }


def _scenario(
    options: ServeOptions, load: Load, summary: RunSummary, facts: ServerFacts
) -> Scenario:
    started = options.server is not None
    answered = max(summary.ok, 1)
    span = summary.duration_s
    return Scenario(
        hardware=options.hardware,
        model=options.server.model.rstrip("/").rsplit("/", 1)[-1]
        if options.server
        else options.target.model,
        engine="vllm" if started or _says_vllm(facts) else "openai-compatible",
        engine_version=facts.version or "",
        concurrency=load.arrivals.concurrency
        if isinstance(load.arrivals, ClosedLoop)
        else summary.mean_open,
        arrival=arrival_of(load),
        input_tokens=(summary.input_tokens_per_s or 0.0) * span / answered or None,
        output_tokens=(summary.output_tokens_per_s or 0.0) * span / answered or None,
    )


def _says_vllm(facts: ServerFacts) -> bool:
    return facts.block_tokens is not None


def arrival_of(load: Load) -> Arrival:
    """A load's arrivals in the corpus's words."""
    how = load.arrivals
    kinds: dict[type, ArrivalKind] = {
        ClosedLoop: "closed_loop",
        AllAtOnce: "offline",
        FromTrace: "trace",
    }
    rate = getattr(how, "rate_per_s", None)
    text = msgspec.json.encode(how).decode()
    return Arrival(kind=kinds.get(type(how), "poisson"), text=text, rate_per_s=rate)


def _flags(summary: RunSummary) -> list[Flag]:
    flags = [Flag(code="invalid-run", reason=reason) for reason in summary.invalid]
    flags += [Flag(code="serving-note", reason=one, severity="note") for one in summary.warnings]
    return flags


def environment_of(facts: ServerFacts) -> dict[str, Scalar]:
    """What identifies the server: records of different servers are never mixed in one store."""
    return facts.as_environment()
