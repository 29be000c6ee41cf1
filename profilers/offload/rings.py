"""Staging memory that is handed round: a slot may be taken again once its last users are done."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from profilers.offload.lanes import Ticket

if TYPE_CHECKING:
    import torch


@dataclass
class Slot:
    """One staging buffer and the jobs that still use it."""

    buffer: torch.Tensor
    users: list[Ticket] = field(default_factory=list)


class Ring:
    """Slots in turn. Whoever takes one waits for `users`, then names its own."""

    def __init__(self, buffers: list[torch.Tensor]) -> None:
        self._slots = [Slot(buffer) for buffer in buffers]
        self._turn = 0

    def take(self) -> Slot:
        """The slot that was used longest ago."""
        self._turn = (self._turn + 1) % len(self._slots)
        return self._slots[self._turn]
