"""A measured server for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from analyzer.serving.summary import Distribution
from analyzer.units import show
from profilers.serving import ServeReport, ServeRun
from profilers.serving.compare import Comparison

_SHARES = ("p50", "p90", "p95", "p99")


def report_document(report: ServeReport) -> dict[str, Any]:
    """Facts of the server and the summary of every run, in SI units."""
    compared = report.comparison
    return {
        "server": report.facts.as_environment(),
        "runs": [
            {"load": msgspec.to_builtins(run.load), **msgspec.to_builtins(run.summary)}
            for run in report.runs
        ],
        "saturation_rate_per_s": report.saturation_rate_per_s,
        "comparison": None
        if compared is None
        else {
            "command": compared.command,
            "metrics": [
                {**msgspec.to_builtins(each), "difference": each.difference}
                for each in compared.metrics
            ],
        },
    }


def report_text(report: ServeReport) -> str:
    """Runs one after another, the saturation rate, the comparison."""
    return "\n".join(_lines(report))


def _lines(report: ServeReport) -> Iterator[str]:
    facts = report.facts
    yield (
        f"server {facts.version or 'of unknown version'}, "
        f"{facts.kv_blocks or 'unknown'} KV blocks of {facts.block_tokens or 'unknown'} tokens, "
        f"longest sequence {facts.max_model_tokens or 'unknown'}"
    )
    for run in report.runs:
        yield ""
        yield from _run_lines(run)
    if report.saturation_rate_per_s is not None:
        yield f"\nsaturation rate: {report.saturation_rate_per_s:.4g} requests/s"
    if report.comparison is not None:
        yield ""
        yield from _comparison_lines(report.comparison)


def _run_lines(run: ServeRun) -> Iterator[str]:
    summary = run.summary
    yield msgspec.json.encode(run.load.arrivals).decode()
    failed = ", ".join(f"{count} {label}" for label, count in summary.failures.items())
    tokens = summary.output_tokens_per_s
    yield (
        f"  {summary.ok} of {summary.requests} ok{f' ({failed})' if failed else ''} in "
        f"{summary.duration_s:.1f} s: {summary.request_rate_per_s:.4g} requests/s, "
        f"{'tokens not counted' if tokens is None else f'{tokens:,.1f} output tokens/s'}, "
        f"{summary.mean_open:.1f} in flight"
    )
    yield "  " + "".join(f"{name:>12}" for name in ("", "mean", *_SHARES, "largest"))
    for name, each in (
        ("TTFT", summary.from_scheduled.ttft),
        ("from sent", summary.from_sent.ttft),
        ("TPOT", summary.tpot),
        ("ITL", summary.itl),
        ("E2E", summary.from_scheduled.e2e),
        ("queue", summary.client_queue),
        ("send lag", summary.send.lag),
    ):
        if each is not None:
            yield _row(name, each)
    if summary.goodput_per_s is not None:
        yield (
            f"  goodput {summary.goodput_per_s:.4g} requests/s, {summary.attainment or 0.0:.1%} of "
            "all requests kept every promise"
        )
    yield from (f"  INVALID: {reason}" for reason in summary.invalid)
    yield from (f"  note: {reason}" for reason in summary.warnings)
    yield from (f"  {label}: {text}" for label, text in summary.first_details.items() if text)


def _row(name: str, each: Distribution) -> str:
    figures = (each.mean, *(each.percentiles.get(share) for share in _SHARES), each.largest)
    cells = ["-" if value is None else show(value, "time", 4) for value in figures]
    return "  " + "".join(f"{cell:>12}" for cell in (name, *cells))


def _comparison_lines(compared: Comparison) -> Iterator[str]:
    yield f"against vllm {compared.command}"
    yield f"  {'':<20}{'ours':>12}{'theirs':>12}{'difference':>12}{'by chance':>12}"
    for each in compared.metrics:
        chance = "-" if each.noise is None else f"± {each.noise:.1%}"
        yield (
            f"  {each.name:<20}{each.ours:>12.5g}{each.theirs:>12.5g}{each.difference:>+12.1%}"
            f"{chance:>12}"
        )
