"""An event loop whose clock jumps over every wait, so that hours of load take seconds to test.

Sockets stay real; both ends must live on this one loop. Time stands still while anything can be
read or written, and moves to the next timer when nothing can.
"""

from __future__ import annotations

import asyncio
import os
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from fake_server import FakeServer

LOOKS = 3
"""How often to look for what the loopback interface has delivered before the clock may jump."""


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def select(self, timeout: float | None = None) -> list:
        ready = super().select(0)
        if ready or timeout is None or timeout <= 0:
            return ready or (super().select(None) if timeout is None else [])
        for _ in range(LOOKS):
            os.sched_yield()
            ready = super().select(0)
            if ready:
                return ready
        self.now += timeout
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def beside(server: FakeServer) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """A stand-in for asyncio.run that serves `server` on the same virtual loop meanwhile."""

    async def both(work: Coroutine[Any, Any, Any]) -> Any:
        server.renew()
        await server.start()
        try:
            return await work
        finally:
            await server.stop()

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(both(work))

    return run
