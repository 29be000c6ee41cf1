"""One request's way through the system: mutable, private to the simulator."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analyzer.serving.kv import Chain, Hold
from analyzer.workload_arrivals import RequestSpec


class RequestTimes(NamedTuple):
    """What one request saw. Times in seconds from the start of the simulation."""

    number: int
    arrival_s: float
    admitted_s: float
    """When its first step began."""
    first_token_s: float
    end_s: float
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    preemptions: int
    replica: int
    refused: bool = False
    """True: longer than the engine takes; it never ran and its times mean nothing."""

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.arrival_s

    @property
    def e2e_s(self) -> float:
        return self.end_s - self.arrival_s

    @property
    def tpot_s(self) -> float | None:
        """Mean time per token after the first; None for answers of one token."""
        if self.output_tokens < 2:
            return None
        return (self.end_s - self.first_token_s) / (self.output_tokens - 1)


class Sequence:
    """A request inside the simulator."""

    __slots__ = (
        "admitted_s",
        "arrival_s",
        "cached",
        "computed",
        "done",
        "first_token_s",
        "hold",
        "home",
        "joined_tick",
        "last_token_s",
        "preemptions",
        "progress",
        "promised",
        "queued_s",
        "replica",
        "spec",
        "target",
        "ticks",
    )

    def __init__(self, spec: RequestSpec, arrival_s: float) -> None:
        self.spec = spec
        self.arrival_s = arrival_s
        self.queued_s = arrival_s
        self.admitted_s = -1.0
        self.first_token_s = -1.0
        self.last_token_s = -1.0
        self.done = 0
        """Answer tokens that exist."""
        self.computed = 0
        """Tokens in the KV cache while prefilling."""
        self.target = spec.input_tokens
        """Tokens that must be computed before the next answer token."""
        self.cached = 0
        self.preemptions = 0
        self.hold = Hold()
        self.promised = 0
        """Blocks that it may take up to its end, where those are set aside."""
        self.home: object = None
        """The batch of decoding sequences that it joined last."""
        self.joined_tick = 0
        self.ticks = 0
        self.progress: NDArray[np.int64] | None = None
        """With speculation: answer tokens of this stay in the batch after each step."""
        self.replica = -1

    @property
    def chain(self) -> Chain:
        """Named parts of what it wants in the cache; after a preemption, its own part too."""
        if self.preemptions:
            return (*self.spec.segments, (self.spec.own_key, self.target))
        return self.spec.segments

    @property
    def left(self) -> int:
        """Answer tokens still wanted."""
        return self.spec.output_tokens - self.done

    def times(self, end_s: float, refused: bool = False) -> RequestTimes:
        """The final account."""
        return RequestTimes(
            number=self.spec.number,
            arrival_s=self.arrival_s,
            admitted_s=self.admitted_s,
            first_token_s=self.first_token_s,
            end_s=end_s,
            input_tokens=self.spec.input_tokens,
            output_tokens=self.done,
            cached_tokens=self.cached,
            preemptions=self.preemptions,
            replica=self.replica,
            refused=refused,
        )
