"""From logits to tokens, in a way that does not depend on how the block was cut.

The randomness of a step is one uniform number per sequence of the block, drawn from (seed, step):
the same sequence gets the same token under every policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from analyzer.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Greedy unless `sample`; filters apply in the order temperature, top-k, top-p."""

    sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.temperature <= 0:
            raise ConfigError(f"temperature must be above 0, not {self.temperature:g}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must lie in (0, 1], not {self.top_p:g}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must not be negative, not {self.top_k}")


def dice(sampling: Sampling, step: int, rows: int) -> torch.Tensor | None:
    """One uniform number per sequence for this step, or None when greedy."""
    import torch

    if not sampling.sample:
        return None
    generator = torch.Generator().manual_seed(sampling.seed * 1_000_003 + step)
    return torch.rand(rows, generator=generator, dtype=torch.float64)


def choose(logits: torch.Tensor, sampling: Sampling, dice: torch.Tensor | None) -> torch.Tensor:
    """The next token of each row of (rows, vocabulary) logits."""
    if dice is None:
        return logits.argmax(-1)
    odds = filtered(logits.float() / sampling.temperature, sampling).softmax(-1).double()
    edges = odds.cumsum(-1)
    mark = dice.to(edges.device)[:, None] * edges[:, -1:]
    import torch

    token = torch.searchsorted(edges, mark, right=True)[:, 0]
    return token.clamp_max(logits.shape[-1] - 1)


def filtered(logits: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    """Logits with everything outside top-k and top-p at minus infinity."""
    if 0 < sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, float("-inf"))
    if sampling.top_p < 1:
        ordered, order = logits.sort(-1, descending=True)
        before = ordered.softmax(-1).cumsum(-1) - ordered.softmax(-1)
        drop = (before >= sampling.top_p).scatter(-1, order, before >= sampling.top_p)
        logits = logits.masked_fill(drop, float("-inf"))
    return logits
