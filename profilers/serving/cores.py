"""Who runs on which core: on a small machine that decides more than anything else.

vLLM's CPU build binds its worker's threads to the first cores and leaves everything else (HTTP
server, scheduler, load generator) free to run there too. Where those land is chance, and it moves a
lone request's time per token by a tenth and more. Keeping them on the last core takes chance out.
There the generator shares it with a scheduler that never sleeps, so it goes first where it may.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

FIRST = -10
"""Priority of the generator, if this user may set it."""


@contextlib.contextmanager
def apart(group: int | None) -> Iterator[int]:
    """Move this process, and the threads of a process group that nobody bound, to the last core.

    Yields how many threads of the group were moved; all may go anywhere again in the end.
    """
    cores = os.sched_getaffinity(0)
    usual = os.getpriority(os.PRIO_PROCESS, 0)
    moved: list[int] = []
    try:
        os.sched_setaffinity(0, {max(cores)})
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, FIRST)
        if group is not None:
            moved = [thread for thread in _threads(group) if _move(thread, cores, {max(cores)})]
        yield len(moved)
    finally:
        with contextlib.suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, 0, usual)
        os.sched_setaffinity(0, cores)
        for thread in moved:
            _move(thread, {max(cores)}, cores)


def _move(thread: int, there: set[int], target: set[int]) -> bool:
    """Move a thread if it may run exactly `there`; False if not, or if it has ended."""
    try:
        if os.sched_getaffinity(thread) != there:
            return False
        os.sched_setaffinity(thread, target)
    except OSError:
        return False
    return True


def _threads(group: int) -> Iterator[int]:
    """Threads of every process of a group."""
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if os.getpgid(int(name)) == group:
                yield from (int(thread) for thread in os.listdir(f"/proc/{name}/task"))
