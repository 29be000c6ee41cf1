"""A simulation for people, for programs and as files: the same figures in three coats."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import IO, Any, NamedTuple

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from analyzer.basis import Basis
from analyzer.model import Model
from analyzer.serving import Distribution, MaxRate, SimOptions, SimResult
from analyzer.serving.deployment import Deployment
from analyzer.serving.sequence import RequestTimes
from analyzer.system import System
from analyzer.units import show

SCHEMA = 1
METRICS = {
    "ttft": "time to first token",
    "tpot": "time per output token",
    "itl": "gap between tokens",
    "e2e": "end to end",
    "queue": "waiting for the first step",
}
_BANDED = {"ttft": "ttft_s", "tpot": "tpot_s", "e2e": "e2e_s"}
_SHARES = ("p50", "p90", "p95", "p99")
REQUEST_COLUMNS = (
    "request",
    "arrival_s",
    "input_tokens",
    "output_tokens",
    "ttft_s",
    "tpot_s",
    "e2e_s",
    "queue_s",
    "cached_tokens",
    "preemptions",
    "replica",
    "status",
)


class Simulated(NamedTuple):
    """What was asked and what came of it."""

    model: Model
    system: System
    basis: Basis
    deployment: Deployment
    options: SimOptions
    result: SimResult
    highest: MaxRate | None
    warnings: tuple[str, ...]


def document(found: Simulated) -> dict[str, Any]:
    """Everything in SI units; distributions over requests, `timeline` as columns."""
    result = found.result
    left_out = {"timeline", "request_times", "step_rows"}
    figures = {name: getattr(result, name) for name in result.__struct_fields__}
    kept = {name: value for name, value in figures.items() if name not in left_out}
    return {
        "schema": SCHEMA,
        "model": found.model.name,
        "system": found.system.name,
        "rates": found.basis.label,
        "calibration": found.basis.calibration.id if found.basis.calibration else None,
        "load": msgspec.to_builtins(found.options.load),
        "engine": msgspec.to_builtins(found.options.engine),
        "replicas": found.options.replicas,
        "router": found.options.router,
        **msgspec.to_builtins({**kept, "replicas_used": kept.pop("replicas")}),
        "kv_occupancy": occupancy(found),
        "interval": _intervals(found),
        "highest_rate": _highest(found.highest),
        "timeline": {name: list(column) for name, column in result.timeline.items()},
        "assumed": list(found.deployment.assumed),
        "warnings": list(found.warnings),
    }


def occupancy(found: Simulated) -> dict[str, float]:
    """Share of the KV blocks in use: time-weighted mean, and at most."""
    total = found.options.engine.kv_blocks
    blocks, widths = found.result.timeline["kv_blocks"], _widths(found.result)
    mean = sum(b * w for b, w in zip(blocks, widths, strict=True)) / max(sum(widths), 1e-12)
    return {
        "mean": mean / (total * found.options.replicas),
        "most": found.result.most_kv_blocks / total,
    }


def _widths(result: SimResult) -> list[float]:
    starts = result.timeline["start_s"]
    return [b - a for a, b in zip(starts, [*starts[1:], result.duration_s], strict=True)]


def _intervals(found: Simulated) -> dict[str, Any] | None:
    """Where measurements of medians lie, by the held-out errors of the rates' own calibration."""
    bounds: dict[str, Any] = {}
    for name, band_of in _BANDED.items():
        each: Distribution | None = getattr(found.result, name)
        middle = _middle(each)
        held = found.basis.interval(band_of, middle) if middle is not None else None
        if held is not None:
            bounds[band_of] = {
                "level": held.level,
                "low": float(held.low),
                "high": float(held.high),
            }
    return bounds or None


def _middle(each: Distribution | None) -> float | None:
    return each.percentiles.get("p50", each.mean) if each is not None else None


def _highest(found: MaxRate | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "rate_per_s": found.rate_per_s,
        "failed_rate_per_s": found.failed_rate_per_s,
        "probes": len(found.probes),
    }


def summary(found: Simulated) -> Iterator[Any]:
    """Renderables, top to bottom."""
    engine = found.options.engine
    yield Text(
        f"{found.model.name} on {found.options.replicas} x {_group(found)}, simulated", "bold"
    )
    yield Text(
        f"{engine.kv_blocks} KV blocks of {engine.block_tokens} · {engine.max_batched_tokens} "
        f"tokens a step · {engine.max_sequences} sequences · "
        f"{f'{engine.stages} stages · ' if engine.stages > 1 else ''}"
        f"{msgspec.json.encode(found.options.load.arrivals).decode()}",
        style="dim",
    )
    yield _latencies(found)
    yield from _remarks(found)


def _group(found: Simulated) -> str:
    plan = found.deployment.laid.plan
    devices = int(plan.tp) * int(plan.pp) // int(plan.attention_dp)
    name = found.system.device.name
    return name if devices == 1 else f"({devices} x {name})"


def _latencies(found: Simulated) -> Table:
    bounds = _intervals(found) or {}
    level = next(iter(bounds.values()))["level"] if bounds else 0.0
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("latency")
    for heading in ("mean", *_SHARES, "largest"):
        table.add_column(heading, justify="right")
    table.add_column(f"{level:.0%} of measured medians" if bounds else "")
    for name, label in METRICS.items():
        each: Distribution | None = getattr(found.result, name)
        if each is None:
            continue
        cells = [each.mean, *(each.percentiles.get(share) for share in _SHARES), each.largest]
        held = bounds.get(_BANDED.get(name, ""))
        table.add_row(
            label,
            *("-" if value is None else show(value, "time", 3) for value in cells),
            f"{show(held['low'], 'time', 3)} to {show(held['high'], 'time', 3)}" if held else "",
        )
    return table


def _remarks(found: Simulated) -> Iterator[Text]:
    result = found.result
    held = occupancy(found)
    busy = sum(each.utilisation for each in result.replicas) / len(result.replicas)
    yield Text(
        f"{result.finished} of {result.requests} requests in {result.duration_s:,.1f} s: "
        f"{result.request_rate_per_s:.4g} requests/s, {result.output_tokens_per_s:,.0f} output "
        f"tokens/s. Steps under way {busy:.0%} of the time, {result.mean_in_flight:.1f} requests "
        f"in flight, KV blocks {held['mean']:.0%} in use, {held['most']:.0%} at most; "
        f"{result.preemptions} preemptions."
    )
    if result.refused:
        yield Text(f"{result.refused} requests are longer than the engine takes.", style="yellow")
    if result.goodput_per_s is not None:
        yield Text(
            f"Goodput {result.goodput_per_s:.4g} requests/s: {result.attainment or 0.0:.1%} of all "
            "requests kept every promise."
        )
    if found.highest is not None:
        yield Text(_said_of(found.highest), style="bold")
    yield Text(f"Rates: {found.basis.label}.")
    for assumed in found.deployment.assumed:
        yield Text(f"Assumed: {assumed}.")
    for warning in found.warnings:
        yield Text(f"Note: {warning}.", style="yellow")


def _said_of(highest: MaxRate) -> str:
    if highest.rate_per_s == 0:
        return "The promises are kept at no rate."
    beyond = highest.failed_rate_per_s
    failed = f"; at {beyond:.4g} they are not" if beyond is not None else ""
    return f"The promises are kept up to {highest.rate_per_s:.4g} requests/s{failed}."


def write_requests(stream: IO[str], times: tuple[RequestTimes, ...]) -> None:
    """One row per request in the order of the load; refused ones have no times."""
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(REQUEST_COLUMNS)
    for each in sorted(times, key=lambda one: one.number):
        latencies: list[float | None] = [None] * 4
        if not each.refused:
            latencies = [each.ttft_s, each.tpot_s, each.e2e_s, each.admitted_s - each.arrival_s]
        rows.writerow(
            [
                each.number,
                f"{each.arrival_s:.9g}",
                each.input_tokens,
                each.output_tokens,
                *("" if value is None else f"{value:.9g}" for value in latencies),
                each.cached_tokens,
                each.preemptions,
                each.replica,
                "refused" if each.refused else "ok",
            ]
        )


def write_timeline(stream: IO[str], result: SimResult) -> None:
    """The timeline's columns, one row per bin."""
    rows = csv.writer(stream, lineterminator="\n")
    rows.writerow(result.timeline)
    for row in zip(*result.timeline.values(), strict=True):
        rows.writerow([f"{value:.9g}" for value in row])
