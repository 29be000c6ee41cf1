"""What is to be done: transfers between ranks and compute on them, and what each waits for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from analyzer.errors import ConfigError

Done = dict[int, tuple[int, ...]]
"""Per rank: the tasks that must be finished before what comes next may start there."""


class Task(NamedTuple):
    """A transfer (`size_B` from `rank` to `target`) or compute (`seconds` on `rank`)."""

    rank: int
    target: int
    size_B: float
    seconds: float
    after: tuple[int, ...]
    label: str = ""

    @property
    def is_compute(self) -> bool:
        return self.target < 0


class Schedule:
    """Tasks in the order they were added; a task may wait for earlier ones only."""

    def __init__(self) -> None:
        self.tasks: list[Task] = []

    def send(
        self, source: int, target: int, size_B: float, after: Iterable[int] = (), label: str = ""
    ) -> int:
        """A transfer; its number."""
        return self._add(Task(source, target, size_B, 0.0, tuple(after), label))

    def compute(self, rank: int, seconds: float, after: Iterable[int] = (), label: str = "") -> int:
        """Work on one rank, which does one such task at a time; its number."""
        return self._add(Task(rank, -1, 0.0, seconds, tuple(after), label))

    def _add(self, task: Task) -> int:
        number = len(self.tasks)
        if any(not 0 <= earlier < number for earlier in task.after):
            raise ConfigError(f"task {number} waits for one that was not added before it")
        if task.size_B < 0 or task.seconds < 0:
            raise ConfigError(f"task {number} has a negative size or time")
        self.tasks.append(task)
        return number


def nothing(ranks: Iterable[int]) -> Done:
    """Ranks that may start at once."""
    return dict.fromkeys(ranks, ())


def merge(*parts: Mapping[int, tuple[int, ...]]) -> Done:
    """Wait for all of these, rank by rank."""
    merged: Done = {}
    for part in parts:
        for rank, numbers in part.items():
            merged[rank] = merged.get(rank, ()) + numbers
    return merged
