"""From request outcomes to a run's figures, and whether they may be believed.

Every figure's definition is in docs/serving.md. Distributions are those of the simulator's report,
so that measured and simulated runs compare one to one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

import msgspec
import numpy as np

from analyzer.serving.summary import Distribution, distribution, meets
from analyzer.workload import SLO
from profilers.serving.generator import RunLog
from profilers.serving.outcome import Outcome
from profilers.serving.saturation import Saturation, judge

WORST_LAG_S = 0.005
WORST_LAG_SHARE = 0.05
LEAST_SENT_SHARE = 0.98
MOST_FAILED_SHARE = 0.01
OVER_SATURATED = "over-saturated"


class Latencies(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Distributions over successful requests, in seconds, from one starting point."""

    ttft: Distribution | None
    e2e: Distribution | None


class SendProof(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How well the generator kept its schedule."""

    lag: Distribution | None
    loop_lag: Distribution | None
    asked_per_s: float | None
    sent_per_s: float | None


class RunSummary(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One run's figures. Rates are per second over the run's duration."""

    requests: int
    ok: int
    failures: dict[str, int]
    first_details: dict[str, str]
    """One example for each kind of failure."""
    duration_s: float
    """From the first scheduled time to the last end."""
    request_rate_per_s: float
    """Successful requests over the duration."""
    output_tokens_per_s: float | None
    input_tokens_per_s: float | None
    from_scheduled: Latencies
    from_sent: Latencies
    tpot: Distribution | None
    itl: Distribution | None
    client_queue: Distribution | None
    """From scheduled to written: what waiting on our side adds."""
    tokens_per_chunk: float | None
    without_usage: int
    """Successful requests whose tokens the server did not count: they have no TPOT."""
    cached_tokens: int | None
    goodput_per_s: float | None
    attainment: float | None
    """Share of all requests that kept the SLO; failures kept none."""
    most_open: int
    mean_open: float
    saturation: Saturation | None
    send: SendProof
    invalid: tuple[str, ...]
    """Reasons why the run's latencies must not be used; empty: none found."""
    warnings: tuple[str, ...]


def summarise(log: RunLog, slo: SLO | None = None, *, open_loop: bool = True) -> RunSummary:
    """The figures of one run; `open_loop` says whether times were planned beforehand."""
    outcomes = log.outcomes
    good = [outcome for outcome in outcomes if outcome.ok]
    first = min((o.scheduled_s for o in outcomes), default=0.0)
    span = max(max((o.end_s for o in outcomes), default=0.0) - first, 1e-9)
    answered = [o for o in good if o.output_tokens is not None]
    kept = _kept(good, slo) if slo is not None else None
    counted_out = sum(o.output_tokens or 0 for o in answered) / span if answered else None
    counted_in = sum(o.prompt_tokens or 0 for o in answered) / span if answered else None
    proof = _proof(log, open_loop)
    saturation = judge(outcomes) if open_loop else None
    cached = [o.cached_tokens for o in good if o.cached_tokens is not None]
    return RunSummary(
        requests=len(outcomes),
        ok=len(good),
        failures=dict(sorted(Counter(o.label for o in outcomes if not o.ok).items())),
        first_details={o.label: o.detail for o in reversed(outcomes) if not o.ok},
        duration_s=span,
        request_rate_per_s=len(good) / span,
        output_tokens_per_s=counted_out,
        input_tokens_per_s=counted_in,
        from_scheduled=_latencies(good, "scheduled_s"),
        from_sent=_latencies(good, "sent_s"),
        tpot=_over(good, lambda o: o.tpot_s),
        itl=distribution(gap for o in good for gap in o.gaps_s),
        client_queue=_over(good, lambda o: (o.written_s or o.sent_s) - o.scheduled_s),
        tokens_per_chunk=_per_chunk(answered),
        without_usage=len(good) - len(answered),
        cached_tokens=sum(cached) if cached else None,
        goodput_per_s=kept / span if kept is not None else None,
        attainment=kept / len(outcomes) if kept is not None and outcomes else None,
        most_open=log.most_open,
        mean_open=sum(o.end_s - o.sent_s for o in outcomes) / span,
        saturation=saturation,
        send=proof,
        invalid=tuple(_invalid(log, proof, saturation, len(good), open_loop)),
        warnings=tuple(_warnings(good, answered)),
    )


def _kept(good: Iterable[Outcome], slo: SLO) -> int:
    return sum(meets(slo, o.ttft_s() or 0.0, o.tpot_s, o.e2e_s()) for o in good)


def _latencies(good: list[Outcome], since: str) -> Latencies:
    return Latencies(
        ttft=_over(good, lambda o: o.ttft_s(since)), e2e=_over(good, lambda o: o.e2e_s(since))
    )


def _over(
    outcomes: Iterable[Outcome], metric: Callable[[Outcome], float | None]
) -> Distribution | None:
    values = (metric(outcome) for outcome in outcomes)
    return distribution(value for value in values if value is not None)


def _per_chunk(answered: list[Outcome]) -> float | None:
    chunks = sum(len(o.chunk_s) for o in answered)
    return sum(o.output_tokens or 0 for o in answered) / chunks if chunks else None


def _proof(log: RunLog, open_loop: bool) -> SendProof:
    asked = sent = None
    if open_loop and len(log.outcomes) > 1:
        planned = [o.scheduled_s for o in log.outcomes]
        really = [o.sent_s for o in log.outcomes]
        spans = max(planned) - min(planned), max(really) - min(really)
        if spans[0] > 0 and spans[1] > 0:
            asked = (len(planned) - 1) / spans[0]
            sent = (len(really) - 1) / spans[1]
    return SendProof(
        lag=distribution(o.lag_s for o in log.outcomes),
        loop_lag=distribution(log.loop_lag_s),
        asked_per_s=asked,
        sent_per_s=sent,
    )


def _invalid(
    log: RunLog, proof: SendProof, saturation: Saturation | None, good: int, open_loop: bool
) -> Iterable[str]:
    total = len(log.outcomes)
    if log.interrupted:
        yield "interrupted before all requests were done"
    if total == 0 or good == 0:
        yield "no request succeeded"
        return
    lags = np.asarray([o.lag_s for o in log.outcomes])
    late = float(np.quantile(lags, 0.99))
    gap = 1.0 / proof.asked_per_s if proof.asked_per_s else 0.0
    limit = max(WORST_LAG_S, WORST_LAG_SHARE * gap)
    if open_loop and late > limit:
        yield f"the generator fell behind: lag p99 {late * 1e3:.1f} ms > {limit * 1e3:.1f} ms"
    if proof.asked_per_s and (proof.sent_per_s or 0) < LEAST_SENT_SHARE * proof.asked_per_s:
        yield f"sent {proof.sent_per_s:.3g}/s of the {proof.asked_per_s:.3g}/s that were asked for"
    if total - good > MOST_FAILED_SHARE * total:
        yield f"{total - good} of {total} requests failed"
    if saturation is not None and saturation.saturated:
        yield f"{OVER_SATURATED}: latencies depend on how long the run was"


def _warnings(good: list[Outcome], answered: list[Outcome]) -> Iterable[str]:
    if len(answered) < len(good):
        yield f"{len(good) - len(answered)} answers came without usage: tokens not counted"
    wrong = sum(o.prompt_tokens not in (None, o.asked_input) for o in answered)
    if wrong:
        yield f"{wrong} prompts were counted differently by the server than asked for"
    several = _per_chunk(answered)
    if several is not None and several > 1.05:
        yield f"{several:.2f} tokens per event: gaps between events are not gaps between tokens"
