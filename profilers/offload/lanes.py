"""Lanes and tickets: who runs a job, when it may start, and what it took.

A lane is one worker thread with a first-in first-out queue. On CUDA it also owns a stream: the
thread then only issues work, and ordering between lanes is by events on the device. Without CUDA
the thread does the work itself. Everything else is the same code.

A link is what lanes share: it may be given an emulated rate, and then a transfer that is quicker
than the link lasts as long as the link says. Transfers on one link queue up behind each other.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import nullcontext
from typing import Any

from analyzer.errors import ProfilerError
from profilers.offload.host import cuda

Job = Callable[[], int]  # returns the bytes that it really moved


class Link:
    """A shared physical resource; `rate` is units of work per second, None for no emulation.

    An emulated link is busy from when a transfer could begin, not from when a thread woke up to
    begin it: a slow machine must not look like a slow link.
    """

    def __init__(self, name: str, rate: float | None = None, latency_s: float = 0.0) -> None:
        self.name = name
        self.rate = rate
        self.latency_s = latency_s
        self._free_at = 0.0
        self._lock = threading.Lock()

    def reserve(self, now: float, work: float) -> tuple[float, float]:
        """Take the link for `work` units; returns when that begins and when it is done."""
        if self.rate is None:
            return now, now
        with self._lock:
            begin = max(self._free_at, now)
            self._free_at = begin + self.latency_s + work / self.rate
            return begin, self._free_at


class Ticket:
    """One timed job: what, where, how much, and its outcome.

    `work` is what was announced (bytes of a link, FLOPs of the GPU, bytes the CPU reads) and paces
    an emulated link; `moved_B` is what the job found that it had moved.
    """

    def __init__(self, stage: str, link: str, at: tuple[int, int, int], work: float) -> None:
        self.stage, self.link, self.at, self.work = stage, link, at, work
        self.issued: Future[None] = Future()
        self.asked_s = time.perf_counter()
        self.start_s = self.end_s = 0.0
        self.moved_B = 0
        self.marks: tuple[Any, Any] | None = None  # CUDA events around the work

    def wait(self, timeout_s: float | None = None) -> None:
        """Block the calling thread until the work is done; raises what the job raised."""
        self.issued.result(timeout_s)
        if self.marks is not None:
            self.marks[1].synchronize()


class Lane:
    """One queue, one worker thread and, on CUDA, one stream."""

    def __init__(self, name: str, link: Link, stream: Any, cancelled: threading.Event) -> None:
        self.name, self.link, self.stream = name, link, stream
        self._cancelled = cancelled
        self._last_end_s = 0.0
        self._jobs: queue.SimpleQueue[tuple[Ticket, Job, list[Ticket]] | None]
        self._jobs = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=f"offload-{name}", daemon=True)
        self._thread.start()

    def submit(self, ticket: Ticket, job: Job, after: Iterable[Ticket]) -> Ticket:
        """Queue a job behind the others; it starts once every ticket in `after` is done."""
        self._jobs.put((ticket, job, list(after)))
        return ticket

    def close(self) -> None:
        """Let the queue drain and end the thread."""
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        import torch

        stream = nullcontext() if self.stream is None else torch.cuda.stream(self.stream)
        with torch.inference_mode(), stream:
            while (entry := self._jobs.get()) is not None:
                ticket, job, after = entry
                del entry
                try:
                    self._run(ticket, job, after)
                except BaseException as error:  # handed to whoever waits, never swallowed
                    ticket.issued.set_exception(error)
                del ticket, job, after  # a worker that idles must not keep buffers alive

    def _run(self, ticket: Ticket, job: Job, after: list[Ticket]) -> None:
        for earlier in after:
            earlier.issued.result()
        if self._cancelled.is_set():
            raise ProfilerError("the run was given up before this job began")
        for earlier in after:
            if earlier.marks is not None:
                self._follow(earlier)
        if self.stream is not None:
            ticket.marks = self._marks()
            ticket.marks[0].record(self.stream)
        ready = ticket.asked_s
        if self.link.rate is None:
            ready = time.perf_counter()
        for earlier in after:
            ready = max(ready, earlier.end_s)
        begin, free_at = self.link.reserve(ready, ticket.work)
        ticket.start_s = max(begin, self._last_end_s)  # spans of one lane never overlap
        ticket.moved_B = job()
        if ticket.marks is not None:
            ticket.marks[1].record(self.stream)
        if (left := free_at - time.perf_counter()) > 0:
            time.sleep(left)
        ticket.end_s = self._last_end_s = time.perf_counter()
        ticket.issued.set_result(None)

    def _follow(self, earlier: Ticket) -> None:
        assert earlier.marks is not None  # noqa: S101 - narrowed by the caller
        if self.stream is not None:
            self.stream.wait_event(earlier.marks[1])
        else:
            earlier.marks[1].synchronize()

    def _marks(self) -> tuple[Any, Any]:
        return (cuda().Event(enable_timing=True), cuda().Event(enable_timing=True))


STREAMS = (
    ("compute", "gpu"),
    *((stage, "h2d") for stage in ("load_weight", "load_cache", "load_hidden", "gather")),
    *((stage, "h2d") for stage in ("return_attention", "tokens")),
    *((stage, "d2h") for stage in ("store_cache", "send_query", "store_hidden", "tokens")),
)
"""Stages that run on a CUDA stream of their own; computing stages share one."""


def lane_name(stage: str, link: str) -> str:
    """All computing of a device queues on one lane; every kind of transfer has its own."""
    return link if link in ("gpu", "cpu") else f"{stage}.{link}"


class Lanes:
    """All lanes of an engine by name; the tickets they were given, in order of issue."""

    LINKS = ("h2d", "d2h", "disk_read", "disk_write", "gpu", "cpu")

    def __init__(self, device: Any, rates: dict[str, float], latency_s: float = 0.0) -> None:
        unknown = set(rates) - set(self.LINKS)
        if unknown:
            raise ProfilerError(f"no link named {sorted(unknown)[0]!r}; links: {self.LINKS}")
        self.device = device
        self.links = {
            name: Link(name, rates.get(name), latency_s if name in rates else 0.0)
            for name in self.LINKS
        }
        self.tickets: list[Ticket] = []
        self._drained = 0
        self._cancelled = threading.Event()
        self._lanes: dict[str, Lane] = {}
        if device.type == "cuda":  # every stream must be known before a tensor is shared
            for stage, link in STREAMS:
                self._lane(stage, link)

    def submit(
        self,
        stage: str,
        link: str,
        at: tuple[int, int, int],
        work: float,
        job: Job,
        after: Iterable[Ticket] = (),
    ) -> Ticket:
        """Run `job` on the lane of (stage, link); compute stages share the device's one lane."""
        ticket = Ticket(stage, link, at, work)
        self.tickets.append(ticket)
        return self._lane(stage, link).submit(ticket, job, after)

    def _lane(self, stage: str, link: str) -> Lane:
        name = lane_name(stage, link)
        if name not in self._lanes:
            self._lanes[name] = Lane(name, self.links[link], self._stream(link), self._cancelled)
        return self._lanes[name]

    def _stream(self, link: str) -> Any:
        if self.device.type != "cuda" or link in ("cpu", "disk_read", "disk_write"):
            return None
        return cuda().Stream(self.device)

    def base_mark(self) -> Any:
        """On CUDA, an event recorded now with the device idle; times can count from it."""
        if self.device.type != "cuda":
            return None
        cuda().synchronize(self.device)
        mark = cuda().Event(enable_timing=True)
        mark.record()
        return mark

    def share(self, tensors: Iterable[Any]) -> None:
        """Tell CUDA's allocator that every stream may use these tensors."""
        if self.device.type == "cuda":
            for lane in list(self._lanes.values()):
                if lane.stream is not None:
                    for tensor in tensors:
                        tensor.record_stream(lane.stream)

    def drain(self) -> None:
        """Wait for everything issued; the first failure in order of issue is raised."""
        for ticket in self.tickets[self._drained :]:
            ticket.wait()
        self._drained = len(self.tickets)

    def close(self) -> None:
        """End every thread, whatever happened before; jobs not yet begun are given up."""
        self._cancelled.set()
        for lane in self._lanes.values():
            lane.close()
        self._lanes.clear()
        if self.device.type == "cuda":
            cuda().synchronize(self.device)
