"""What one micro-batch hands from one unit to the next."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass
class Flow:
    """Made by one compute event, filled by attention, read by the next compute event.

    A new one per event: a slow store may still read the old one while compute goes on.
    """

    x: torch.Tensor = field(init=False)
    q: torch.Tensor = field(init=False)
    fresh: list[torch.Tensor] = field(init=False)
    attended: torch.Tensor = field(init=False)
    tokens: torch.Tensor = field(init=False)
    host_q: torch.Tensor = field(init=False)
    host_fresh: list[torch.Tensor] = field(init=False)
    host_attended: torch.Tensor = field(init=False)
    holders: int = 0
    returned: torch.Tensor | None = None
    looked_up: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    def hold(self) -> None:
        """One more job will need the queries, keys and values."""
        with self._lock:
            self.holders += 1

    def drop(self) -> None:
        """A job is done with them; the last one lets their memory go."""
        with self._lock:
            self.holders -= 1
            if self.holders == 0:
                del self.q, self.fresh

    def all_attended(self) -> torch.Tensor:
        """Attended values of every row: those of the GPU, then those the CPU gave back."""
        import torch

        if self.returned is None:
            return self.attended
        return torch.cat([self.attended, self.returned])


def join(parts: list[torch.Tensor]) -> torch.Tensor:
    """Rows of several parts as one tensor."""
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(parts)
