"""What a simulation answers."""

from __future__ import annotations

import msgspec

from analyzer.serving.cluster import Cluster
from analyzer.serving.meters import StepRow
from analyzer.serving.options import SimOptions
from analyzer.serving.sequence import RequestTimes
from analyzer.serving.sketch import Sketch
from analyzer.serving.summary import Distribution, distribution, meets, sketched

METRICS = ("ttft_s", "tpot_s", "e2e_s", "queue_s")


class Replica(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica over the whole run."""

    index: int
    steps: int
    busy_s: float
    utilisation: float
    """Share of the run in which a step was under way."""


class SimResult(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times in seconds, rates per second of the whole deployment."""

    requests: int
    """Requests that came."""
    finished: int
    refused: int
    """Longer than the engine takes."""
    unfinished: int
    """Left when the simulation was stopped (`until_s` or the SLO search)."""
    duration_s: float
    """From time zero to the last event."""
    request_rate_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    ttft: Distribution | None
    tpot: Distribution | None
    itl: Distribution | None
    e2e: Distribution | None
    queue: Distribution | None
    """From arrival to the first step."""
    goodput_per_s: float | None
    """Requests that kept every promise of the SLO; None without an SLO."""
    attainment: float | None
    """Share of all requests that came (refused and unfinished ones are failures)."""
    mean_in_flight: float
    most_in_flight: int
    steps: int
    prefill_tokens: int
    """Prompt tokens computed, recomputation counted again, cached ones not."""
    cached_tokens: int
    preemptions: int
    most_kv_blocks: int
    replicas: tuple[Replica, ...]
    timeline: dict[str, list[float]]
    """Columns: start_s of a bin and means over it (busy replicas, running, waiting, KV blocks)."""
    request_times: tuple[RequestTimes, ...]
    step_rows: tuple[StepRow, ...]


class Collector:
    """Takes each request as it ends; remembers the first `keep` and sketches all."""

    def __init__(self, options: SimOptions, allowed_failures: int | None = None) -> None:
        self.kept: list[RequestTimes] = []
        self.finished = self.refused = self.good = self.failed = 0
        self.input_tokens = self.output_tokens = self.cached_tokens = 0
        self._keep = options.keep_requests
        self._slo = options.slo
        self._allowed = allowed_failures
        self._sketching = False
        self._sketches = {name: Sketch() for name in METRICS}

    def done(self, times: RequestTimes) -> bool:
        """Take one request; True once more have failed than were allowed."""
        if len(self.kept) < self._keep:
            self.kept.append(times)
        if times.refused:
            self.refused += 1
            self.failed += 1
        else:
            self._count(times)
        return self._allowed is not None and self.failed > self._allowed

    def _count(self, times: RequestTimes) -> None:
        self.finished += 1
        self.input_tokens += times.input_tokens
        self.output_tokens += times.output_tokens
        self.cached_tokens += times.cached_tokens
        if self.finished + self.refused > self._keep:
            self._sketch(times)
        if self._slo is not None:
            good = meets(self._slo, times.ttft_s, times.tpot_s, times.e2e_s)
            self.good += good
            self.failed += not good

    def _sketch(self, times: RequestTimes) -> None:
        """More than can be kept: from here on distributions are sketched, the kept ones too."""
        if not self._sketching:
            self._sketching = True
            for each in self.kept:
                self._add(each)
        self._add(times)

    def _add(self, times: RequestTimes) -> None:
        for name in METRICS if not times.refused else ():
            value = _metric(times, name)
            if value is not None:
                self._sketches[name].add(value)

    def summary(self, name: str) -> Distribution | None:
        """Exact while all requests were kept, sketched after."""
        if self._sketching:
            return sketched(self._sketches[name])
        return distribution(
            value
            for times in self.kept
            if not times.refused
            for value in [_metric(times, name)]
            if value is not None
        )


def _metric(times: RequestTimes, name: str) -> float | None:
    if name == "queue_s":
        return times.admitted_s - times.arrival_s
    value: float | None = getattr(times, name)
    return value


def gather(options: SimOptions, cluster: Cluster, seen: Collector) -> SimResult:
    """Everything that is known at the end."""
    span = max(cluster.now_s, 1e-12)
    meters = cluster.meters
    promised = options.slo is not None
    return SimResult(
        requests=cluster.submitted,
        finished=seen.finished,
        refused=seen.refused,
        unfinished=cluster.in_flight,
        duration_s=cluster.now_s,
        request_rate_per_s=seen.finished / span,
        input_tokens_per_s=seen.input_tokens / span,
        output_tokens_per_s=seen.output_tokens / span,
        ttft=seen.summary("ttft_s"),
        tpot=seen.summary("tpot_s"),
        itl=sketched(meters.gaps),
        e2e=seen.summary("e2e_s"),
        queue=seen.summary("queue_s"),
        goodput_per_s=seen.good / span if promised else None,
        attainment=seen.good / cluster.submitted if promised and cluster.submitted else None,
        mean_in_flight=cluster.in_flight_s / span,
        most_in_flight=cluster.most_in_flight,
        steps=meters.steps,
        prefill_tokens=meters.prefill_tokens,
        cached_tokens=seen.cached_tokens,
        preemptions=meters.preemptions,
        most_kv_blocks=meters.most_kv_blocks,
        replicas=tuple(
            Replica(
                index=each.index,
                steps=each.steps,
                busy_s=each.busy_s,
                utilisation=each.busy_s / span,
            )
            for each in cluster.replicas
        ),
        timeline=meters.timeline.columns(),
        request_times=tuple(seen.kept),
        step_rows=tuple(meters.kept),
    )
