"""What a simulated deployment is: scheduler limits, host overheads, replicas, routing, promises."""

from __future__ import annotations

import math

import msgspec

from analyzer.errors import ConfigError, nearest
from analyzer.workload import SLO
from analyzer.workload_arrivals import Load


def _require(good: bool, name: str, value: object, wanted: str) -> None:
    if not good:
        raise ConfigError(f"{name} must be {wanted}, not {value!r}")


class Speculation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Each step verifies `tokens` drafts; each is accepted with probability `acceptance`."""

    tokens: int
    acceptance: float
    draft_s: float = 0.0
    """Seconds that drafting adds to each decoding step."""

    def __post_init__(self) -> None:
        _require(self.tokens >= 1, "speculation.tokens", self.tokens, "at least 1")
        _require(0 <= self.acceptance <= 1, "speculation.acceptance", self.acceptance, "0..1")
        _require(self.draft_s >= 0, "speculation.draft_s", self.draft_s, "at least 0")


class Graphs(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """CUDA graphs: a step of no more tokens than the largest size runs padded to the next size."""

    sizes: tuple[int, ...]
    eager_s: float = 0.0
    """Extra seconds of a step that is too large for any graph."""

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip(self.sizes, self.sizes[1:], strict=False))
        good = bool(self.sizes) and self.sizes[0] >= 1 and rising
        _require(good, "graphs.sizes", self.sizes, "rising sizes from 1 on")


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the CPU side costs, in seconds."""

    step_s: float = 0.0
    """Scheduling and launching, every step."""
    sequence_s: float = 0.0
    """More for every sequence in the step."""
    request_s: float = 0.0
    """From the request's arrival to its place in the queue (HTTP, tokenizer)."""
    token_s: float = 0.0
    """From a step's end to the client's having its tokens."""
    overlapped: bool = False
    """True: the next step is scheduled while this one runs (asynchronous scheduling).

    The host then costs time only where it takes longer than the device, and a request that comes
    during a step gets into the step after the next.
    """

    def __post_init__(self) -> None:
        for name in ("step_s", "sequence_s", "request_s", "token_s"):
            value = getattr(self, name)
            _require(math.isfinite(value) and value >= 0, f"host.{name}", value, "at least 0")


class EngineOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One replica as vLLM V1 runs it. Take the block numbers from the engine's own log."""

    kv_blocks: int
    """Usable KV blocks of one replica."""
    block_tokens: int = 16
    max_batched_tokens: int = 8192
    max_sequences: int = 256
    max_model_tokens: int = 131_072
    """Longest prompt plus answer; longer requests are refused."""
    long_prefill_tokens: int = 0
    """Most prompt tokens of one request in one step while others are there; 0: no such limit."""
    chunked_prefill: bool = True
    prefix_caching: bool = True
    watermark: float = 0.0
    """Share of the blocks that an admission must leave free."""
    reserve_whole_prompt: bool = True
    """Admit only when the whole prompt would fit, not just its first chunk."""
    reserve_answer: bool = False
    """Admit only when prompts and whole answers of all that run would fit: none is thrown out."""
    prompts_alone: bool = False
    """Prompts get steps of their own, and go before answers; False: they share steps."""
    stages: int = 1
    """Pipeline stages; as many batches may be under way. Step times are through all of them."""
    slowest_stage: float = 0.0
    """Share of a step's time that the slowest stage takes; 0: all take the same."""
    speculation: Speculation | None = None
    graphs: Graphs | None = None
    host: Host = Host()

    def __post_init__(self) -> None:
        for name in (
            "kv_blocks",
            "block_tokens",
            "max_batched_tokens",
            "max_sequences",
            "max_model_tokens",
            "stages",
        ):
            _require(getattr(self, name) >= 1, f"engine.{name}", getattr(self, name), "at least 1")
        _require(
            self.long_prefill_tokens >= 0,
            "engine.long_prefill_tokens",
            self.long_prefill_tokens,
            "at least 0",
        )
        share = self.slowest_stage
        _require(0 <= share <= 1, "engine.slowest_stage", share, "0..1")
        if self.stages > 1 and self.prompts_alone:
            raise ConfigError("engine.prompts_alone is not simulated over pipeline stages")
        _require(0 <= self.watermark < 1, "engine.watermark", self.watermark, "0..1, 1 excluded")
        per_sequence = 1 + (self.speculation.tokens if self.speculation else 0)
        if self.max_sequences * per_sequence > self.max_batched_tokens:
            raise ConfigError(
                f"engine.max_batched_tokens={self.max_batched_tokens} does not hold one decoding "
                f"step of max_sequences={self.max_sequences} times {per_sequence} tokens"
            )


class Disaggregation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prefill on `prefill_replicas`, decoding on the other replicas; the KV cache is sent over.

    Each prefill replica sends one prompt's cache at a time over a link of its own.
    """

    prefill_replicas: int
    kv_token_B: float
    """Bytes of cache per token (all layers and ranks)."""
    link_Bps: float
    link_s: float = 0.0
    """Latency of each transfer."""
    prefill_engine: EngineOptions | None = None
    """None: as the decoding replicas."""

    def __post_init__(self) -> None:
        _require(
            self.prefill_replicas >= 1, "prefill_replicas", self.prefill_replicas, "at least 1"
        )
        _require(self.kv_token_B > 0, "kv_token_B", self.kv_token_B, "above 0")
        _require(self.link_Bps > 0, "link_Bps", self.link_Bps, "above 0")
        _require(self.link_s >= 0, "link_s", self.link_s, "at least 0")


ROUTERS = ("round_robin", "least_loaded", "prefix_aware")


class SimOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole simulation: who serves, how, what comes, and what was promised."""

    load: Load
    engine: EngineOptions
    replicas: int = 1
    router: str = "round_robin"
    disaggregation: Disaggregation | None = None
    slo: SLO | None = None
    keep_requests: int = 100_000
    """Requests whose times are kept; percentiles of more come from a sketch (0.1 %)."""
    keep_steps: int = 0
    """First steps of the timeline kept one by one."""
    timeline_bins: int = 256
    until_s: float | None = None
    """Stop here even if requests are left; None: serve all."""

    def __post_init__(self) -> None:
        _require(self.replicas >= 1, "replicas", self.replicas, "at least 1")
        _require(self.keep_requests >= 0, "keep_requests", self.keep_requests, "at least 0")
        _require(self.keep_steps >= 0, "keep_steps", self.keep_steps, "at least 0")
        _require(self.timeline_bins >= 2, "timeline_bins", self.timeline_bins, "at least 2")
        if self.router not in ROUTERS:
            raise ConfigError(
                f"router '{self.router}' is not known{nearest(self.router, ROUTERS)}; "
                f"use {', '.join(ROUTERS)}"
            )
        if self.disaggregation and self.engine.prompts_alone:
            raise ConfigError("engine.prompts_alone is not simulated with disaggregation")
        if self.disaggregation and self.disaggregation.prefill_replicas >= self.replicas:
            raise ConfigError(
                f"replicas={self.replicas} leaves none for decoding beside "
                f"prefill_replicas={self.disaggregation.prefill_replicas}"
            )
