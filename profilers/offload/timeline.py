"""What a run's tickets say: spans, totals per stage, and a timeline that Chrome can show."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profilers.offload.lanes import Ticket, lane_name

PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Span:
    """One finished job in seconds since the run began."""

    stage: str
    link: str
    at: tuple[int, int, int]
    work: float
    moved_B: int
    start_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end_s - self.start_s

    @property
    def phase(self) -> str:
        """Step 0 is prefill, every later one decoding."""
        return PHASES[self.at[0] > 0]


@dataclass(frozen=True)
class StageTotal:
    """Jobs of one stage on one link in one phase. `work` is bytes; on the GPU it is FLOPs."""

    stage: str
    link: str
    phase: str
    count: int
    work: float
    moved_B: int
    busy_s: float
    median_s: float
    p95_s: float

    @property
    def rate(self) -> float:
        """Work per busy second: bytes/s, or FLOP/s on the GPU."""
        return self.work / self.busy_s if self.busy_s > 0 else 0.0


@dataclass(frozen=True)
class Times:
    """Wall time of a run by phase, and what of it the device spent waiting."""

    prefill_s: float
    decode_s: float
    gpu_busy_s: float

    @property
    def wall_s(self) -> float:
        """Everything from the first job to the last token."""
        return self.prefill_s + self.decode_s

    @property
    def exposed_wait_s(self) -> float:
        """Wall time in which the GPU had nothing to do."""
        return max(0.0, self.wall_s - self.gpu_busy_s)


def spans(tickets: Sequence[Ticket], start_s: float, base: Any = None) -> list[Span]:
    """Resolve tickets; on CUDA times are the device's own, counted from the event `base`."""
    out = []
    for ticket in tickets:
        if ticket.marks is not None and base is not None:
            first, last = (base.elapsed_time(mark) / 1e3 for mark in ticket.marks)
        else:
            first, last = ticket.start_s - start_s, ticket.end_s - start_s
        out.append(
            Span(ticket.stage, ticket.link, ticket.at, ticket.work, ticket.moved_B, first, last)
        )
    return out


def times(done: Sequence[Span]) -> Times:
    """Split the wall at the moment when every sequence had its first token."""
    first = [
        span.end_s
        for span in done
        if span.stage == "tokens" and span.link == "d2h" and span.at[0] == 0
    ]
    last = max(span.end_s for span in done)
    busy = sum(span.seconds for span in done if span.link == "gpu")
    return Times(max(first), last - max(first), busy)


def stage_totals(done: Sequence[Span]) -> list[StageTotal]:
    """Totals per (stage, link, phase), in the order that stages first ran."""
    groups: dict[tuple[str, str, str], list[Span]] = defaultdict(list)
    for span in done:
        groups[span.stage, span.link, span.phase].append(span)
    return [
        StageTotal(
            *key,
            count=len(group),
            work=sum(span.work for span in group),
            moved_B=sum(span.moved_B for span in group),
            busy_s=sum(span.seconds for span in group),
            median_s=statistics.median(span.seconds for span in group),
            p95_s=_p95([span.seconds for span in group]),
        )
        for key, group in groups.items()
    ]


def _p95(values: list[float]) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]


def chrome_trace(done: Sequence[Span]) -> dict[str, Any]:
    """The run in Chrome's trace format: one row per lane, microseconds."""
    lanes = sorted({lane_name(span.stage, span.link) for span in done})
    rows: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "tid": n, "name": "thread_name", "args": {"name": lane}}
        for n, lane in enumerate(lanes)
    ]
    for span in done:
        i, j, k = span.at
        rows.append(
            {
                "ph": "X",
                "pid": 0,
                "tid": lanes.index(lane_name(span.stage, span.link)),
                "name": f"{span.stage} i{i} j{j} k{k}",
                "cat": span.stage,
                "ts": span.start_s * 1e6,
                "dur": span.seconds * 1e6,
                "args": {"step": i, "unit": j, "batch": k, "bytes": span.moved_B},
            }
        )
    return {"traceEvents": rows, "displayTimeUnit": "ms"}


def write_trace(done: Sequence[Span], path: Path) -> None:
    """Write the timeline for chrome://tracing or Perfetto."""
    path.write_text(json.dumps(chrome_trace(done)))
