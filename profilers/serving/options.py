"""What `plumbline profile serve` was asked for."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from analyzer.errors import ConfigError
from analyzer.workload import SLO
from analyzer.workload_arrivals import Load


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Limits of one request in seconds; passing one fails the request, nothing is tried again."""

    connect_s: float = 10.0
    first_token_s: float = 300.0
    """From sending to the first event."""
    between_tokens_s: float = 60.0
    total_s: float = 1800.0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise ConfigError(f"timeouts.{name} must be above 0, not {value!r}")


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The server under test and how to speak to it."""

    url: str
    """http://host:port, without /v1."""
    model: str
    endpoint: Literal["completions", "chat"] = "completions"
    vocabulary: int = 32_000
    """Token ids are drawn from 100 up to this."""
    api_key: str | None = None
    """Sent, never stored."""
    timeouts: Timeouts = Timeouts()
    ignore_eos: bool = True
    temperature: float = 0.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError(f"url must begin with http:// or https://, not {self.url!r}")
        if self.vocabulary <= 200:
            raise ConfigError(f"vocabulary must be above 200, not {self.vocabulary}")


class VllmServer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A vLLM server to start: `python -m vllm.entrypoints.openai.api_server` and flags."""

    python: str
    """Interpreter of the environment that holds vLLM."""
    model: str
    """Folder or name of the model."""
    port: int = 8123
    flags: tuple[str, ...] = ()
    environment: dict[str, str] = {}
    ready_s: float = 600.0
    stop_s: float = 30.0


class Sweep(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Rates to run one after another, rising until the server no longer keeps up."""

    rates_per_s: tuple[float, ...] = ()
    """Given: exactly these. Empty: `start_per_s`, then `factor` times more each."""
    start_per_s: float = 0.5
    factor: float = 1.5
    most_runs: int = 12
    seconds_per_rate: float = 60.0
    least_requests: int = 40
    beyond_saturation: int = 1
    """Runs that are still made once a run was over-saturated."""


class ServeOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One profile of a server: give `url` in `target` to attach, or `server` to start one."""

    target: Target
    load: Load
    """The load of a single run; a sweep replaces its rate."""
    server: VllmServer | None = None
    sweep: Sweep | None = None
    slo: SLO | None = None
    warmup_requests: int = 4
    scrape_s: float = 1.0
    """Seconds between two readings of /metrics; 0: none."""
    store: str | None = None
    """Folder of the record store; None: nothing is kept."""
    compare: Literal["", "vllm-bench"] = ""
    """'vllm-bench' runs `vllm bench serve` on the same server and load, beside ours."""
    compare_rounds: int = 4
    """Times that both tools take their turn."""
    hardware: str = ""
    """Name of the system, for the record."""
    tokenizer: str = ""
    """Folder of the tokenizer, for `vllm bench serve`."""
