"""How long an engine step takes: the one thing that the simulator asks of the rest of the analyzer.

`StepTimer` is the protocol. `AffineTimer` is a step time that is linear in what the step does;
`TableTimer` (tables.py) interpolates tables made once from any exact step time.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from analyzer.errors import ConfigError

Floats = NDArray[np.float64]


class StepLoad(NamedTuple):
    """What one step computes, as sums over its sequences."""

    prefill_tokens: int = 0
    prefill_pairs: float = 0.0
    """Query-key pairs of all prefill chunks: sum of new·past + new·(new+1)/2."""
    prefill_context: int = 0
    """Keys that the chunks read: sum of past + new."""
    prefill_chunks: int = 0
    decode_batch: int = 0
    decode_tokens: int = 0
    """Query tokens of decoding sequences: the batch times one plus the drafts."""
    decode_context: int = 0
    """Keys that decoding sequences read, summed over them."""
    padding_tokens: int = 0
    """Tokens that only fill a CUDA graph up."""

    @property
    def tokens(self) -> int:
        return self.prefill_tokens + self.decode_tokens + self.padding_tokens


class StepTimer(Protocol):
    """Seconds that the device needs for a step."""

    def step_time_s(self, load: StepLoad) -> float:
        """One step."""

    def decode_times_s(self, load: StepLoad, contexts: Floats) -> Floats:
        """Steps that differ from `load` (which has no prefill) only in `decode_context`."""


class AffineTimer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A step time linear in the step's sums. All coefficients in seconds."""

    step_s: float = 0.0
    token_s: float = 0.0
    pair_s: float = 0.0
    """Per query-key pair of prefill."""
    chunk_s: float = 0.0
    sequence_s: float = 0.0
    key_s: float = 0.0
    """Per key read by decoding."""

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise ConfigError(f"{name} must be 0 or more, not {getattr(self, name)!r}")

    def step_time_s(self, load: StepLoad) -> float:
        """Seconds of one step."""
        return (
            self.step_s
            + self.token_s * (load.prefill_tokens + load.decode_tokens + load.padding_tokens)
            + self.pair_s * load.prefill_pairs
            + self.chunk_s * load.prefill_chunks
            + self.sequence_s * load.decode_batch
            + self.key_s * load.decode_context
        )

    def decode_times_s(self, load: StepLoad, contexts: Floats) -> Floats:
        """Seconds of steps that differ only in their context."""
        fixed = self.step_time_s(load) - self.key_s * load.decode_context
        return np.asarray(fixed + self.key_s * contexts)
