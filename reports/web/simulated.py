"""A simulated server as it goes: snapshots while requests end, then what all of them saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from analyzer.serving import Distribution, RequestTimes, SimOptions, SimResult, StepTimer
from analyzer.serving.cluster import Cluster
from analyzer.serving.result import Collector, gather
from analyzer.units import show
from reports.web.figure import Figure, Rule, figure
from reports.web.limits import Deadline
from reports.web.predicted import Card, count

EVERY_S = 0.4
"""Seconds between two snapshots."""
MOST_POINTS = 1500


class Snapshot(NamedTuple):
    """How far a simulation has come."""

    ended: int
    now_s: float
    timeline: dict[str, list[float]]
    requests: Sequence[RequestTimes]


def serve(
    options: SimOptions,
    timer: StepTimer,
    watch: Callable[[Snapshot], None],
    deadline: Deadline,
) -> SimResult:
    """Simulate; `watch` is called every now and then, and the deadline is kept."""
    seen = Collector(options)
    shown_s = time.monotonic()

    def done(times: RequestTimes) -> bool:
        nonlocal shown_s
        deadline.check()
        stop = seen.done(times)
        if time.monotonic() - shown_s > EVERY_S:
            watch(_snapshot(cluster, seen))
            shown_s = time.monotonic()
        return stop

    cluster = Cluster(options, timer, done)
    cluster.run()
    return gather(options, cluster, seen)


def _snapshot(cluster: Cluster, seen: Collector) -> Snapshot:
    columns = cluster.meters.timeline.columns()
    return Snapshot(seen.finished + seen.refused, cluster.now_s, columns, tuple(seen.kept))


def occupancy(timeline: dict[str, list[float]]) -> Figure:
    """Sequences that run and that wait, over time."""
    rows = [
        (start_s, value, name)
        for name, values in (("running", timeline["running"]), ("waiting", timeline["waiting"]))
        for start_s, value in zip(timeline["start_s"], values, strict=True)
    ]
    return figure(
        "plumbline-serve-occupancy",
        "Requests that run and that wait",
        "line",
        (("start_s", "time", "s"), ("value", "requests"), ("what", "what")),
        rows,
        x="start_s",
        y="value",
        color="what",
        caption="Means over equal spans of time, all replicas together.",
    )


def cache(timeline: dict[str, list[float]], blocks: int) -> Figure:
    """How full the cache is, over time."""
    rows = [
        (start_s, used / blocks)
        for start_s, used in zip(timeline["start_s"], timeline["kv_blocks"], strict=True)
    ]
    return figure(
        "plumbline-serve-cache",
        "How full the cache is",
        "line",
        (("start_s", "time", "s"), ("share", "share of the KV blocks", "share")),
        rows,
        x="start_s",
        y="share",
        caption=f"Of {blocks:,} blocks in all.",
    )


def waits(requests: Sequence[RequestTimes], slo_s: float | None) -> Figure:
    """Time to first token of each request, by when it came."""
    served = [each for each in requests if not each.refused]
    kept = np.unique(np.linspace(0, max(len(served) - 1, 0), MOST_POINTS).round().astype(int))
    rows = [
        (served[at].arrival_s, served[at].ttft_s, served[at].e2e_s, served[at].input_tokens,
         served[at].output_tokens)
        for at in kept.tolist() if served
    ]  # fmt: skip
    return figure(
        "plumbline-serve-waits",
        "Time to first token of each request",
        "point",
        (("arrival_s", "when it came", "s"), ("ttft_s", "time to first token", "s"),
         ("e2e_s", "end to end", "s"), ("input", "prompt tokens"), ("output", "answer tokens")),
        rows,
        x="arrival_s",
        y="ttft_s",
        rules=(Rule("y", slo_s, "promised"),) if slo_s else (),
    )  # fmt: skip


def shares(requests: Sequence[RequestTimes]) -> Figure:
    """What share of requests saw at most so much, for each latency."""
    rows: list[tuple[Any, ...]] = []
    for name, title in (
        ("ttft_s", "first token"),
        ("tpot_s", "per token"),
        ("e2e_s", "end to end"),
    ):
        found = [getattr(each, name) for each in requests if not each.refused]
        values = np.sort(np.array([value for value in found if value], dtype=np.float64))
        if not len(values):
            continue
        for share in np.linspace(0, 1, 101):
            rows.append((float(np.quantile(values, share)), float(share), title))
    return figure(
        "plumbline-serve-shares",
        "Share of requests that saw at most so much",
        "line",
        (("time_s", "time", "s"), ("share", "share of requests", "share"), ("what", "latency")),
        rows,
        x="time_s",
        y="share",
        color="what",
        log_x=True,
    )


def cards(found: SimResult) -> list[Card]:
    """The figures that people look for first."""
    made = [
        _card("Time to first token", found.ttft),
        _card("Time per output token", found.tpot),
        _card("End to end", found.e2e),
        Card("Output", f"{count(found.output_tokens_per_s)} tok/s", "all replicas together"),
        Card("Requests", f"{found.request_rate_per_s:.3g} /s", f"{found.finished:,} ended"),
    ]
    if found.attainment is not None:
        kept = f"{found.goodput_per_s or 0:.3g} /s kept every promise"
        made.append(Card("Promises kept", f"{found.attainment:.1%}", kept))
    if found.refused:
        made.append(Card("Refused", f"{found.refused:,}", "longer than the engine takes"))
    if found.preemptions:
        made.append(Card("Thrown back", f"{found.preemptions:,}", "for lack of cache, recomputed"))
    return made


def _card(label: str, found: Distribution | None) -> Card:
    if found is None:
        return Card(label, "–", "no request ended")
    middle = found.percentiles.get("p50", found.mean)
    tails = [
        f"{name} {show(found.percentiles[name], 'time', 3)}"
        for name in ("p90", "p99")
        if name in found.percentiles
    ]
    few = "" if tails else "too few requests for percentiles"
    return Card(label, show(middle, "time", 3), ", ".join(tails) or few)
